//! Turns a trace into the JSON that the page's script draws from.
//!
//! ```text
//! {"origin", "names": [name, …],
//!  "devices": [{"id", "start", "end", "lanes": [[name, class], …],
//!               "spans": [[lane, start, duration, count, busy, name, stream, bytes or -1], …]}, …]}
//! ```
//!
//! Times in ns since the first row of the trace. Devices with many rows come in wider columns.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Foreign;
use super::lanes::{lanes, marks, window};
use crate::profile::trace::Figures;
use crate::report::text::shortened;
use crate::units::Nanos;

/// Marks that a page holds at most, and characters of a name.
const MOST: usize = 12_000;
const LONGEST: usize = 96;

/// Numbers for names, in order of first use.
#[derive(Default)]
struct Names {
    numbers: BTreeMap<String, usize>,
    list: Vec<String>,
}

impl Names {
    fn number(&mut self, name: &str) -> usize {
        let name = match name.char_indices().nth(LONGEST) {
            // Template arguments make the end of a kernel's name; its beginning says what it does.
            Some((at, _)) => format!("{}\u{2026}", &name[..at]),
            None => name.to_owned(),
        };
        let name = shortened(&name, LONGEST + 1);
        if let Some(&known) = self.numbers.get(&name) {
            return known;
        }
        self.list.push(name.clone());
        self.numbers.insert(name, self.list.len() - 1);
        self.list.len() - 1
    }
}

/// The data as one line of JSON.
pub(super) fn data(foreign: &Foreign<'_>, devices: usize) -> String {
    let mut names = Names::default();
    let most = MOST / foreign.devices.len().clamp(1, devices);
    let shown = foreign.devices.iter().take(devices);
    let devices: Vec<Value> =
        shown.map(|(id, figures)| device(foreign, *id, figures, most, &mut names)).collect();
    json!({"origin": foreign.trace.origin, "names": names.list, "devices": devices}).to_string()
}

fn device(
    foreign: &Foreign<'_>,
    id: i64,
    figures: &Figures,
    most: usize,
    names: &mut Names,
) -> Value {
    let trace = foreign.trace;
    let window = window(trace, id, figures.window);
    let lanes = lanes(trace, id);
    let mut column = Nanos::new(1);
    let marks = loop {
        let found: Vec<_> = lanes.iter().map(|(_, rows)| marks(rows, column)).collect();
        if found.iter().map(Vec::len).sum::<usize>() <= most {
            break found;
        }
        column = column.saturating_mul(2).max(window.column(most as u64));
    };
    let mut spans = Vec::new();
    for (lane, marks) in marks.iter().enumerate() {
        for mark in marks {
            let row = mark.row;
            let bytes = row.bytes().and_then(|bytes| i64::try_from(bytes.get()).ok());
            spans.push(json!([
                lane,
                row.start().get(),
                mark.end.saturating_sub(row.start()).get(),
                mark.count,
                mark.busy.get(),
                names.number(&trace.label(row).name),
                trace.lane(row).stream,
                bytes.unwrap_or(-1)
            ]));
        }
    }
    json!({
        "id": id,
        "start": window.start.get(),
        "end": window.end.get(),
        "lanes": lanes.iter().map(|(lane, _)| [lane.name, lane.class]).collect::<Vec<_>>(),
        "spans": spans,
    })
}
