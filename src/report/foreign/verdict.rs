//! Turns the figures of a device into sentences: what was hidden, what limits it, what to change; and what was left
//! out of a trace into warnings.
//!
//! The advice follows from the figures alone, by rules that a reader can check:
//!
//! * *what perfect overlap could save* is at most the exposed copy time, and at most the kernel time that no copy uses
//!   yet: min(HtoD exposed, kernel busy − hidden).
//! * copies that take longer than all kernels cannot hide, whatever the order: fewer bytes are the only help.
//! * a copy on a stream that also runs kernels waits for them and they for it.
//! * a copy from pageable memory is staged by the driver, and the call returns late.

use crate::profile::trace::{CopyGroup, Figures, Kind, Memory, Trace};
use crate::units::{Bytes, Fraction, Nanos};

/// An exposed share of the window below which no advice on copies is worth reading.
const LITTLE: Fraction = Fraction::from_ppm(10_000);

/// Shares from which on something is worth a sentence.
const WORTH: Fraction = Fraction::from_ppm(50_000);
const MOSTLY_IDLE: Fraction = Fraction::from_ppm(300_000);
const HIDDEN_WELL: Fraction = Fraction::from_ppm(950_000);

/// What the figures of one device say, the most important first.
pub(super) fn verdict(figures: &Figures) -> Vec<String> {
    let mut lines = vec![headline(figures)];
    if of_window(figures, figures.htod_exposed) >= LITTLE {
        lines.extend(saving(figures));
        lines.extend(nccl(figures));
        lines.extend(pageable(figures));
        lines.extend(same_stream(figures));
    }
    lines.extend(idle(figures));
    lines
}

fn of_window(figures: &Figures, time: Nanos) -> Fraction {
    Fraction::of(time.get(), figures.window.get())
}

fn headline(figures: &Figures) -> String {
    let window = figures.window.human();
    if figures.htod_busy.is_zero() {
        return format!("No copy from host to device in {window}: there is nothing to hide.");
    }
    format!(
        "{} of {} HtoD copy time ran behind kernels; {} is exposed, {} of the {window} window.",
        figures.hidden_by_kernels.percent(),
        figures.htod_busy.human(),
        figures.htod_exposed.human(),
        of_window(figures, figures.htod_exposed).percent(),
    )
}

/// What better overlap could bring, and what to do instead where that is little.
fn saving(figures: &Figures) -> Option<String> {
    if figures.hidden_by_kernels >= HIDDEN_WELL {
        return None;
    }
    let free = figures.kernel_busy.saturating_sub(figures.kernel_and_htod);
    let saving = figures.htod_exposed.min(free);
    let (share, saves) = (of_window(figures, saving).percent(), saving.human());
    let (copies, kernels) = (figures.htod_busy, figures.kernel_busy);
    if of_window(figures, figures.htod_exposed) < WORTH {
        return Some(format!(
            "Perfect overlap would save at most {saves} ({share} of the window)."
        ));
    }
    if copies > kernels {
        let times = Nanos::get(copies) / kernels.get().max(1);
        let times = match times {
            0 | 1 => "longer than".to_owned(),
            more => format!("{more} times as long as"),
        };
        return Some(format!(
            "Copies take {times} all kernels, so perfect overlap would save at most {saves} ({share} of the \
             window): only fewer bytes help much. Keep more weights resident, or quantise them."
        ));
    }
    Some(format!(
        "Kernels run longer than copies, so perfect overlap would save up to {saves} ({share} of the window): \
         issue copies earlier, on a stream of their own, from pinned memory."
    ))
}

fn nccl(figures: &Figures) -> Option<String> {
    let only = figures.kernel_and_htod.saturating_sub(figures.compute_and_htod);
    (Fraction::of(only.get(), figures.htod_busy.get()) >= WORTH).then(|| {
        format!(
            "Only {} is hidden behind compute: the rest ran behind NCCL kernels, which wait for other GPUs.",
            figures.hidden_by_compute.percent()
        )
    })
}

fn htod(figures: &Figures) -> impl Iterator<Item = &CopyGroup> {
    figures.copies.iter().filter(|group| group.direction == Kind::Htod)
}

fn pageable(figures: &Figures) -> Option<String> {
    let of = |memory: Memory| {
        let groups = || htod(figures).filter(move |group| group.memory == memory);
        let bytes: Bytes = groups().map(|group| group.bytes).sum();
        let time: Nanos = groups().map(|group| group.time).sum();
        (bytes, time)
    };
    let ((bytes, time), (pinned_bytes, pinned_time)) = (of(Memory::Pageable), of(Memory::Pinned));
    if Fraction::of(time.get(), figures.htod_sum.get()) < WORTH {
        return None;
    }
    let rate = crate::profile::rate(bytes, time).human();
    let beside = match crate::profile::rate(pinned_bytes, pinned_time) {
        rate if rate.is_zero() => String::new(),
        rate => format!(" (pinned copies here: {})", rate.human()),
    };
    Some(format!(
        "{} of HtoD copy time is from pageable memory, at {rate}{beside}: pin it. The driver stages such copies, and \
         they cannot overlap the thread that issues them.",
        Fraction::of(time.get(), figures.htod_sum.get()).percent()
    ))
}

fn same_stream(figures: &Figures) -> Option<String> {
    let share = Fraction::of(figures.htod_on_kernel_streams.get(), figures.htod_busy.get());
    if share < WORTH || figures.hidden_by_kernels >= HIDDEN_WELL {
        return None;
    }
    Some(format!(
        "{} of HtoD copy time ran on streams that also run kernels, where a copy and a kernel take turns: use a stream \
         of its own for copies.",
        share.percent()
    ))
}

fn idle(figures: &Figures) -> Option<String> {
    let share = of_window(figures, figures.idle);
    (share >= MOSTLY_IDLE).then(|| {
        format!(
            "The GPU is idle for {} of the window: the host, not the link, limits it there.",
            share.percent()
        )
    })
}

/// Whatever may make the figures wrong, in sentences.
pub(super) fn warnings(trace: &Trace) -> Vec<String> {
    let left_out = &trace.left_out;
    let mut lines = Vec::new();
    if let Some(why) = &trace.cut {
        lines.push(format!("the trace is not whole: {why}; the figures cover what stands before"));
    }
    for (reason, count) in &left_out.rows {
        lines.push(format!("GPU events left out because they {}: {count}", reason.explain()));
    }
    if let Some(first) = left_out.first.as_ref() {
        lines.push(format!("the first of them: {first}"));
    }
    let of = format!("GPU rows without a launch in the trace, of {}", trace.rows().len());
    let counted = [
        (
            left_out.launches_without_row,
            "launches on the host without a GPU row (the profiler lost it, or it ran outside the trace)",
        ),
        (left_out.rows_without_launch, of.as_str()),
        (left_out.repeated_rows, "GPU rows that stand twice, and count twice in sums and bytes"),
        (left_out.rounded_times, "events with times below a nanosecond, rounded to the nearest"),
        (
            left_out.copies_without_bytes,
            "copies without a size, which count in times and not in rates",
        ),
        (left_out.cut_names, "names of more than 4096 bytes, of which the rest is left out"),
    ];
    for (count, what) in counted.into_iter().filter(|(count, _)| *count > 0) {
        lines.push(format!("{what}: {count}"));
    }
    lines
}
