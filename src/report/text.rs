//! Turns a run into one screen of text, at most 80 columns: verdict, ledger, top stalls.

use super::comparison::comparisons;
use super::view::ms;
use super::{View, runs};
use crate::units::Nanos;

const COLUMNS: usize = 80;

/// Stalls listed at most.
const TOP: usize = 5;

/// The screen of the first run, and a sentence on each of the others.
pub fn screens(views: &[View<'_>]) -> String {
    let Some((main, others)) = views.split_first() else { return String::new() };
    let mut out = screen(main);
    for (index, other) in others.iter().enumerate() {
        out.push_str(if index == 0 { "\n" } else { "" });
        out.push_str(&wrap(&runs::sentence(index + 2, main, other), ""));
    }
    for comparison in comparisons(views) {
        out.push_str(&wrap(&comparison.sentence(), ""));
    }
    out
}

/// The screen, ending in a newline.
pub fn screen(view: &View<'_>) -> String {
    let header = &view.profile.header;
    let mut out = wrap(&format!("{} on {}", header.model, header.device), "");
    for line in view.verdict() {
        out.push_str(&wrap(&line, "  "));
    }
    let ledger = &view.summary.ledger;
    out.push_str(&format!(
        "\n{:<34}{:>14}  {}\n",
        "where the makespan went", "ms", "% of makespan"
    ));
    let parts = [
        ("compute busy", ledger.compute),
        ("stall, cold start", ledger.stall_cold),
        ("stall, steady", ledger.stall_steady),
        ("idle, waiting for the host", ledger.idle_host),
        ("other idle", ledger.idle_other),
        ("sum = makespan", ledger.total()),
    ];
    for (name, time) in parts {
        out.push_str(&row(name, time, &view.of_makespan(time)));
    }
    if view.stalls.is_empty() {
        return out;
    }
    out.push_str(&format!(
        "\n{:<34}{:>14}  {}\n",
        "blocks that stall most", "ms", "late uses, main cause"
    ));
    for block in view.blocks.iter().take(TOP) {
        let note = format!("{}, {}", block.count, block.main_cause().name());
        out.push_str(&row(&view.block_name(block.component, block.block), block.total, &note));
    }
    if view.blocks.len() > TOP {
        out.push_str(&format!("  and {} more\n", view.blocks.len() - TOP));
    }
    out
}

fn row(name: &str, time: Nanos, note: &str) -> String {
    format!("  {:<32}{:>14}  {note}\n", shortened(name, 32), ms(time))
}

/// Characters that a terminal or a renderer obeys instead of showing: controls and bidirectional overrides.
pub(super) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

/// The end of a name says more than its start: `…former_blocks.7`.
pub(super) fn shortened(name: &str, most: usize) -> String {
    let printable: Vec<char> = name.chars().map(|c| if is_hidden(c) { '?' } else { c }).collect();
    match printable.len().checked_sub(most) {
        None | Some(0) => printable.into_iter().collect(),
        Some(over) => {
            std::iter::once('\u{2026}').chain(printable[over + 1..].iter().copied()).collect()
        }
    }
}

/// A paragraph of at most 80 columns, ending in a newline.
pub fn wrapped(text: &str) -> String {
    wrap(text, "")
}

/// Breaks at spaces; a word longer than the line is cut.
pub(super) fn wrap(text: &str, indent: &str) -> String {
    let mut out = String::new();
    let mut line = String::from(indent);
    for word in text.split_whitespace() {
        let word = shortened(word, COLUMNS - 2 * indent.len());
        if line.trim().is_empty() {
            line.push_str(&word);
        } else if line.chars().count() + 1 + word.chars().count() <= COLUMNS {
            line.push(' ');
            line.push_str(&word);
        } else {
            out.push_str(&line);
            out.push('\n');
            line = format!("{indent}{indent}{word}");
        }
    }
    out + &line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::fixture;

    #[test]
    fn the_small_run_on_a_screen() {
        let profile = fixture::small();
        expect_test::expect_file!["../../tests/golden/report/small.screen.txt"]
            .assert_eq(&screen(&View::of(&profile)));
    }

    #[test]
    fn every_other_run_is_listed() {
        let (small, large) = (fixture::small(), fixture::large());
        let text = screens(&[View::of(&small), View::of(&large), View::of(&small)]);
        assert!(text.starts_with(&screen(&View::of(&small))));
        assert!(text.contains("\nRun 2: ") && text.contains("\nRun 3: "), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= COLUMNS), "{text}");
    }

    #[test]
    fn no_line_is_wider_than_the_screen() {
        let mut profile = fixture::large();
        profile.header.model = "m".repeat(300);
        profile.header.device = "a device ".repeat(30);
        profile.header.components[0]
            .blocks
            .iter_mut()
            .for_each(|name| name.push_str(&"x".repeat(90)));
        let screen = screen(&View::of(&profile));
        assert!(screen.lines().all(|line| line.chars().count() <= COLUMNS), "{screen}");
        assert!(screen.lines().count() <= 40);
    }
}
