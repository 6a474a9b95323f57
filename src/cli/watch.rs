//! Shows how far a run is, and lets Ctrl-C stop it at the next pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::ProgressBar;
use signal_hook::consts::SIGINT;

use super::Terminal;
use crate::backend::{Passed, Watch};
use crate::lane::OpKind;
use crate::profile::rate;
use crate::program::{Phase, Program};
use crate::units::{Bytes, Nanos};

/// A progress bar and a flag that Ctrl-C sets.
pub struct Console {
    bar: ProgressBar,
    stop: Stop,
    /// Bytes that the first pass, a steady one on average and the last copy to the device, by phase.
    copied: Vec<[Bytes; 3]>,
    phase: usize,
    slab: Bytes,
}

/// A flag that Ctrl-C sets; a second Ctrl-C ends the program at once.
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Watches for Ctrl-C from now on.
    pub fn new() -> Self {
        let flag = Arc::new(AtomicBool::new(false));
        // Where signals cannot be watched, Ctrl-C does what it always does.
        let _ = signal_hook::flag::register_conditional_default(SIGINT, Arc::clone(&flag));
        let _ = signal_hook::flag::register(SIGINT, Arc::clone(&flag));
        Self(flag)
    }
}

impl Watch for Stop {
    fn interrupted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Console {
    /// A bar for all passes of a program.
    pub fn new(terminal: &Terminal, program: &Program) -> Self {
        let passes = program.phases.iter().map(|phase| u64::from(phase.passes)).sum();
        let copied = |phase: &Phase| {
            let last = phase.passes.saturating_sub(1);
            [copied(phase, 0), phase.schedule.bytes_per_pass(), copied(phase, last)]
        };
        Self {
            bar: terminal.progress(passes, "weights"),
            stop: Stop::new(),
            copied: program.phases.iter().map(copied).collect(),
            phase: 0,
            slab: program.slab,
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Bytes that a pass copies to the device.
fn copied(phase: &Phase, pass: u32) -> Bytes {
    let ops = phase.schedule.ops.iter().filter(|op| op.kind == OpKind::Copy);
    ops.filter(|op| op.when.includes(pass, phase.passes)).map(|op| op.bytes).sum()
}

/// What the bar says after a pass: how long it took, the bytes that it copied over that time, the VRAM held.
fn figures(time: Nanos, copied: Bytes, slab: Bytes) -> String {
    let rate = match rate(copied, time) {
        rate if rate.is_zero() => "nothing copied".to_owned(),
        rate => format!("H2D {}", rate.human()),
    };
    format!("pass {}, {rate}, slab {} of VRAM", time.human(), slab.human())
}

impl Watch for Console {
    fn passed(&mut self, passed: &Passed) {
        let [first, middle, last] = self.copied.get(self.phase).copied().unwrap_or_default();
        let copied = match passed.pass {
            0 => first,
            pass if pass + 1 == passed.passes => last,
            _ => middle,
        };
        self.bar.set_message(figures(passed.time, copied, self.slab));
        self.bar.inc(1);
        if passed.pass + 1 == passed.passes {
            self.phase += 1;
        }
    }

    fn interrupted(&self) -> bool {
        self.stop.interrupted()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_says_how_long_how_fast_and_how_much() {
        let figures = |ms: u64, mb: u64| {
            figures(Nanos::new(ms * 1_000_000), Bytes::new(mb * 1_000_000), Bytes::new(9 << 30))
        };
        assert_eq!(figures(800, 13_000), "pass 800.0 ms, H2D 16.3 GB/s, slab 9.0 GiB of VRAM");
        assert_eq!(figures(800, 0), "pass 800.0 ms, nothing copied, slab 9.0 GiB of VRAM");
        assert_eq!(figures(0, 5), "pass 0 ns, nothing copied, slab 9.0 GiB of VRAM");
    }
}
