//! Turns events into nanoseconds since the start of the run.
//!
//! An event's time is read as the milliseconds since another one, in 24 bits. Counted from the start of a long run
//! that would lose microseconds, so every lane has a mark at the end of each pass, and what happened in a pass is
//! read from the mark before it. What rounding remains is added up and reported.

use std::time::Instant;

use super::gpu::Outcome;
use super::stream::Event;
use crate::units::Nanos;

/// What events resolve, as NVIDIA's documentation of `cuEventElapsedTime` states it.
pub(super) const RESOLUTION: Nanos = Nanos::new(500);

/// The host's clock, for what the host does.
#[expect(clippy::disallowed_methods, reason = "the time of a real run is what is measured here")]
pub(super) fn host_now() -> Instant {
    Instant::now()
}

/// The nanoseconds since an instant of the host's clock.
pub(super) fn since(start: Instant) -> Nanos {
    let passed = host_now().saturating_duration_since(start);
    Nanos::new(u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX))
}

/// Nanoseconds from one event to a later one, and how far rounding to 24 bits may be off.
pub(super) fn between(start: &Event, end: &Event) -> Outcome<(u64, u64)> {
    Ok(nanos(start.elapsed_ms(end)?))
}

/// Milliseconds as the driver gives them, in nanoseconds, with their rounding error.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "negative is clamped first, and a float's cast saturates"
)]
fn nanos(milliseconds: f32) -> (u64, u64) {
    let exact = f64::from(milliseconds.max(0.0)) * 1e6;
    let ulp = f64::from(milliseconds.abs().next_up() - milliseconds.abs()) * 1e6;
    (exact.round() as u64, (ulp / 2.0).ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_keep_what_24_bits_hold() {
        assert_eq!(nanos(0.0005).0, 500);
        assert_eq!(nanos(812.3), (812_299_988, 31), "half of 2^-14 ms");
        assert_eq!(nanos(-0.25).0, 0, "an event before its mark by a rounding");
    }
}
