//! Names the default workloads that ship inside the binary, one per built-in model.

use super::Workload;
use crate::error::Result;

/// Model name and workload text, sorted by name.
pub const WORKLOADS: &[(&str, &str)] = &[];

/// The default workload of that built-in model.
pub fn load(model: &str) -> Option<Result<Workload>> {
    let &(name, text) = WORKLOADS.iter().find(|&&(known, _)| known == model)?;
    Some(Workload::from_yaml(&format!("default workload of {name}"), text))
}
