//! Shows how far a run is, and lets Ctrl-C stop it at the next pass.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::ProgressBar;
use signal_hook::consts::SIGINT;

use super::Terminal;
use crate::backend::{Passed, Watch};
use crate::program::{Phase, Program};
use crate::units::{Bytes, Nanos, Rate};

/// A progress bar and a flag that Ctrl-C sets.
pub struct Console {
    bar: ProgressBar,
    stop: Stop,
    /// Bytes that a steady pass copies to the device, by phase.
    copied: Vec<Bytes>,
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
        let copied = |phase: &Phase| phase.schedule.bytes_per_pass();
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

/// The rate at which so many bytes come in that time.
fn rate(bytes: Bytes, time: Nanos) -> Rate {
    let per_second = u128::from(bytes.get()) * 1_000_000_000 / u128::from(time.get().max(1));
    Rate::new(u64::try_from(per_second).unwrap_or(u64::MAX))
}

impl Watch for Console {
    fn passed(&mut self, passed: &Passed) {
        let copied = self.copied.get(self.phase).copied().unwrap_or_default();
        let rate = rate(copied, passed.time).human();
        let (time, slab) = (passed.time.human(), self.slab.human());
        self.bar.set_message(format!("pass {time}, H2D {rate}, VRAM {slab}"));
        self.bar.inc(1);
        if passed.pass + 1 == passed.passes {
            self.phase += 1;
        }
    }

    fn interrupted(&self) -> bool {
        self.stop.interrupted()
    }
}
