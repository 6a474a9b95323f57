//! Names the device specs that ship inside the binary; each names its datasheet.

use super::DeviceSpec;
use crate::error::Result;

/// Name and text of every built-in device spec, sorted by name.
pub const DEVICES: &[(&str, &str)] = &[];

/// The names, sorted.
pub fn names() -> impl Iterator<Item = &'static str> {
    DEVICES.iter().map(|&(name, _)| name)
}

/// The built-in spec of that name.
pub fn load(name: &str) -> Option<Result<DeviceSpec>> {
    let &(name, text) = DEVICES.iter().find(|&&(known, _)| known == name)?;
    Some(DeviceSpec::from_yaml(name, text))
}
