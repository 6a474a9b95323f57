//! Turns the spans that a backend recorded into a [`Profile`]: one file that a report needs and nothing else.
//!
//! ```text
//! compute  ███ 0 ███│stall│███ 1 ███     span: lane, what, block, pass, start, end, what it waited for
//! h2d      ██ 1 ██████████│█ 2 █
//! vram     ▁▂▃▅▆▆▆▆▅▅▆▆▆▅▆▆▆▆▆▆▆▆▆     sample: from this instant on, so many bytes of the slab are in use
//! ```
//!
//! Times are nanoseconds since the start of the run. Spans are sorted by start, then lane.

mod accuracy;
mod arrivals;
mod check;
mod csv;
#[cfg(test)]
pub(crate) mod fixture;
mod held;
mod intervals;
mod io;
mod metrics;
mod rates;
mod spec;
mod stalls;
pub mod trace;

pub use accuracy::{Accuracy, Pair, Side, accuracy};
pub use arrivals::{Arrival, arrivals};
pub use csv::{spans_csv, vram_csv};
pub use held::held;
pub use intervals::Intervals;
pub(crate) use io::gzip as io_gzip;
pub use io::{MAX_PROFILE, read, write, write_gz};
pub use metrics::{ComponentSummary, LaneSummary, Ledger, Summary, busy, extent, summary};
pub use rates::{SizeRates, by_size, copy_rates};
pub use spec::{
    ComponentHeader, Header, Issued, Measured, Overhead, PROFILE_FORMAT, Profile, Span, VramSample,
    WaitedFor,
};
pub use stalls::{BlockStalls, Cause, Stall, best_rate, by_block, by_cause, rate, stalls};
