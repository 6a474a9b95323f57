//! Turns lists on the command line into the axes of a sweep: models, devices, sizes, ranks and budgets.
//!
//! What is named twice is counted once, and told. Every combination of the axes but the budgets is a *line* of the
//! sweep: a request that only lacks its budget.

use std::collections::BTreeMap;

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::cli::Terminal;
use crate::cli::inputs::{self, RankArgs, Selection};
use crate::device::DeviceSpec;
use crate::error::{Error, Result};
use crate::plan::{Granularity, Request, Unit};
use crate::units::{Bytes, Fraction};

/// Budgets that one range may have.
const MAX_BUDGETS: u64 = 10_000;

/// Points that one sweep may have: a million plans take an hour or so.
const MAX_POINTS: usize = 1_000_000;

/// Shares of the weights, in parts per million, where no budget is given.
const DEFAULT_SHARES: [u64; 4] = [250_000, 500_000, 750_000, 900_000];

/// The axes.
#[derive(clap::Args)]
pub struct Axes {
    /// Built-in models (see `vramplan models`), manifest files or checkpoints.
    #[arg(required = true)]
    pub models: Vec<String>,
    /// Built-in devices (see `vramplan devices`) or device files, separated by commas.
    #[arg(long, value_name = "LIST", value_delimiter = ',', required = true)]
    pub device: Vec<String>,
    /// Budgets, separated by commas: sizes, shares of the card such as 90%, or ranges FIRST..LAST/STEP such as
    /// 6GiB..24GiB/1GiB.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub vram: Vec<Budgets>,
    /// Budgets as shares of the weights, beside the reserve: 25%,50%,75%,90% where nothing is given.
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with = "vram")]
    pub weights: Vec<Share>,
    /// Pictures or frames, WIDTHxHEIGHT in pixels, separated by commas.
    #[arg(long, value_name = "LIST", value_delimiter = ',', conflicts_with_all = ["height", "width"])]
    pub size: Vec<Size>,
    /// Numbers of devices of a kind in one host, separated by commas; all answers are then per rank.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub ranks: Vec<u32>,
    /// How the ranks divide the work: tp, sp, hsdp or dp.
    #[arg(long, value_name = "KIND")]
    pub shard: Option<String>,
    /// What ranks exchange over, nvlink or pcie; NVLink by default where the device spec has a peer link.
    #[arg(long, value_name = "LINK")]
    pub link: Option<String>,
    #[command(flatten)]
    pub selection: Selection,
}

/// One or more budgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budgets {
    /// A size.
    Size(Bytes),
    /// A share of the card.
    Card(Fraction),
    /// From a first to a last in equal steps.
    Range {
        /// The first.
        first: Bytes,
        /// What none exceeds.
        last: Bytes,
        /// From each to the next.
        step: Bytes,
    },
}

impl FromStr for Budgets {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let size = |text: &str| {
            let size: Bytes = text.parse().map_err(|error| format!("{error}"))?;
            let bare = text.trim().bytes().all(|byte| byte.is_ascii_digit());
            if bare && (1..1 << 20).contains(&size.get()) {
                return Err(format!("{text} would be {}; did you mean {text}GiB?", size.human()));
            }
            Ok(size)
        };
        let Some((first, rest)) = text.split_once("..") else {
            return match text.ends_with('%') {
                true => text.parse().map(Self::Card).map_err(|error| format!("{error}")),
                false => size(text).map(Self::Size),
            };
        };
        let expected = "FIRST..LAST/STEP, such as 6GiB..24GiB/1GiB";
        let (last, step) = rest.split_once('/').ok_or_else(|| format!("expected {expected}"))?;
        let (first, last, step) = (size(first)?, size(last)?, size(step)?);
        if step.is_zero() || first > last {
            return Err(format!("expected {expected}, with first at most last and a step"));
        }
        if (last.get() - first.get()) / step.get() >= MAX_BUDGETS {
            return Err(format!("expected at most {MAX_BUDGETS} budgets in a range"));
        }
        Ok(Self::Range { first, last, step })
    }
}

impl fmt::Display for Budgets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size(size) => size.fmt(f),
            Self::Card(share) => Share(*share).fmt(f),
            Self::Range { first, last, step } => write!(f, "{first}..{last}/{step}"),
        }
    }
}

impl Budgets {
    /// The budgets on a device, ascending.
    fn on(self, device: &DeviceSpec) -> Vec<Bytes> {
        match self {
            Self::Size(size) => vec![size],
            Self::Card(share) => vec![Bytes::new(share.share_of(device.vram.get()))],
            Self::Range { first, last, step } => {
                let steps = (last.get() - first.get()) / step.get();
                (0..=steps).map(|n| Bytes::new(first.get() + n * step.get())).collect()
            }
        }
    }
}

/// A share of a model's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(pub Fraction);

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let share: Fraction = text.parse().map_err(|error| format!("{error}"))?;
        if (Fraction::from_ppm(1)..=Fraction::WHOLE).contains(&share) {
            return Ok(Self(share));
        }
        let bare = text.trim().bytes().all(|byte| byte.is_ascii_digit());
        let hint = if bare && share > Fraction::WHOLE {
            format!("; did you mean {text}%?")
        } else {
            String::new()
        };
        Err(format!("expected a share of the weights above 0, at most 100%{hint}"))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.percent().replace(".0 ", "").replace(' ', ""))
    }
}

/// Pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size {
    /// Across.
    pub width: u64,
    /// Down.
    pub height: u64,
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let sides = text.split_once('x').and_then(|(width, height)| {
            Some(Self { width: width.parse().ok()?, height: height.parse().ok()? })
        });
        sides.ok_or_else(|| "expected WIDTHxHEIGHT in pixels, such as 1024x768".to_owned())
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}x{}", self.width, self.height))
    }
}

/// A combination of everything but the budget.
pub struct Line {
    /// The model as named.
    pub model: String,
    /// The device as named.
    pub device: String,
    /// The picture, where it was an axis.
    pub size: Option<Size>,
    /// The request; of several ranks the first, which never has less to hold or compute than others.
    pub request: Request,
    /// Budgets, each with the share of weights it was asked for as.
    pub budgets: Vec<(Bytes, Option<Share>)>,
}

impl Axes {
    /// Every line, in the order of the lists.
    pub fn lines(&self, terminal: &mut Terminal) -> Result<Vec<Line>> {
        let models = once("model", &self.models, terminal);
        let devices = once("device", &self.device, terminal);
        let sizes = once("size", &self.size, terminal);
        let ranks = once("number of ranks", &self.ranks, terminal);
        let shares = once("share of weights", &self.weights, terminal);
        let sizes: Vec<Option<Size>> = options(sizes);
        let ranks: Vec<Option<u32>> = options(ranks);
        let mut lines = Vec::new();
        for model in &models {
            let manifest = inputs::load_model(model, terminal)?;
            for device in &devices {
                let spec = inputs::load_device(device)?;
                for &size in &sizes {
                    let selection = self.selection_at(size);
                    let components = selection.components(&manifest)?;
                    let workload = selection.workload(&manifest, &components)?;
                    let components = components.iter().map(|c| c.name.clone()).collect();
                    let request = Request {
                        vram: spec.vram,
                        granularity: Granularity::Tensor,
                        unit: Unit::Block,
                        holds: BTreeMap::new(),
                        generations: 1,
                        host: None,
                        rank: None,
                        manifest: manifest.clone(),
                        device: spec.clone(),
                        components,
                        workload,
                    };
                    let request = inputs::of_whole_passes(request, terminal);
                    for &ranks in &ranks {
                        let request = self.divided(&request, ranks)?;
                        let budgets = self.budgets(&request, &shares)?;
                        let (model, device) = (model.clone(), device.clone());
                        lines.push(Line { model, device, size, request, budgets });
                    }
                }
            }
        }
        let points: usize = lines.iter().map(|line| line.budgets.len()).sum();
        if points > MAX_POINTS {
            let message = format!("{points} points, expected at most {MAX_POINTS}");
            return Err(Error::Usage { message, hint: Some("take fewer budgets".to_owned()) });
        }
        Ok(lines)
    }

    fn selection_at(&self, size: Option<Size>) -> Selection {
        let selection = self.selection.clone();
        match size {
            Some(Size { width, height }) => {
                Selection { width: Some(width), height: Some(height), ..selection }
            }
            None => selection,
        }
    }

    fn divided(&self, request: &Request, ranks: Option<u32>) -> Result<Request> {
        let (shard, link) = (self.shard.clone(), self.link.clone());
        match (RankArgs { ranks, shard, link }).shard()? {
            Some(shard) => {
                let prepared = inputs::divided(request, shard, self.selection.reserve.is_some())?;
                Ok(prepared.under(request.vram))
            }
            None => Ok(request.clone()),
        }
    }

    /// The budgets for a request, each once.
    fn budgets(&self, request: &Request, shares: &[Share]) -> Result<Vec<(Bytes, Option<Share>)>> {
        let mut found = Vec::new();
        if self.vram.is_empty() {
            let unlimited = Request { vram: Bytes::new(u64::MAX >> 1), ..request.clone() };
            let total: Bytes = unlimited.prepare()?.iter().map(|prepared| prepared.total).sum();
            let reserve = request.workload.reserve.total();
            let default = DEFAULT_SHARES.map(|ppm| Share(Fraction::from_ppm(ppm)));
            for &share in if shares.is_empty() { &default } else { shares } {
                let weights = Bytes::new(share.0.share_of(total.get()));
                found.push((reserve.saturating_add(weights), Some(share)));
            }
        }
        let mut seen = BTreeSet::new();
        for budgets in &self.vram {
            found.extend(budgets.on(&request.device).into_iter().map(|vram| (vram, None)));
        }
        found.retain(|&(vram, _)| seen.insert(vram));
        Ok(found)
    }
}

/// Each of a list once, in order of first mention; what is there again is told.
fn once<T: Clone + Ord + fmt::Display>(what: &str, list: &[T], terminal: &mut Terminal) -> Vec<T> {
    let mut seen = BTreeSet::new();
    let mut again = BTreeSet::new();
    let first = |item: &&T| {
        let new = seen.insert((*item).clone());
        if !new {
            again.insert((*item).clone());
        }
        new
    };
    let kept: Vec<T> = list.iter().filter(first).cloned().collect();
    for item in again {
        terminal.warn(&format!("the {what} {item} is given more than once; it is counted once"));
    }
    kept
}

/// Each of a list, or none once where nothing is given.
fn options<T>(list: Vec<T>) -> Vec<Option<T>> {
    if list.is_empty() { vec![None] } else { list.into_iter().map(Some).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_sizes_shares_and_ranges() {
        let gib = |n: u64| Bytes::new(n << 30);
        assert_eq!("6GiB".parse(), Ok(Budgets::Size(gib(6))));
        assert_eq!("50%".parse(), Ok(Budgets::Card(Fraction::from_ppm(500_000))));
        let range: Budgets = "6GiB..9GiB/2GiB".parse().expect("a range");
        assert_eq!(range.on(&DeviceSpec::reference()), [gib(6), gib(8)]);
        for wrong in
            ["6", "6GiB..4GiB/1GiB", "6GiB..8GiB/0", "0..1TiB/1MiB", "6GiB..8GiB", "..", "x%"]
        {
            assert!(wrong.parse::<Budgets>().is_err(), "{wrong}");
        }
        assert!("12".parse::<Budgets>().expect_err("bare").contains("12GiB"));
    }

    #[test]
    fn shares_of_weights_are_at_most_all_of_them() {
        assert_eq!("50%".parse(), Ok(Share(Fraction::from_ppm(500_000))));
        assert_eq!("0.5".parse(), Ok(Share(Fraction::from_ppm(500_000))));
        assert_eq!("1".parse(), Ok(Share(Fraction::WHOLE)));
        assert!("50".parse::<Share>().expect_err("5000 %").contains("did you mean 50%?"));
        for wrong in ["0", "101%", "-1", "x"] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_two_numbers() {
        assert_eq!("1024x768".parse(), Ok(Size { width: 1024, height: 768 }));
        for wrong in ["1024", "x", "1024x", "1024X768", "1x2x3"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
    }
}
