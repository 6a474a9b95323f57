//! Turns rows into the report's Markdown, and refuses verdicts that the figures do not bear out.

use std::fmt::Write as _;

use super::figures::Source;

/// The difference up to which a figure counts as reproduced, in per cent of the published one.
pub const TOLERANCE: f64 = 10.0;

/// How far a simulated figure is from the published one, in per cent of the latter.
pub fn off(published: f64, simulated: f64) -> f64 {
    let off = (simulated / published - 1.0) * 100.0;
    // What rounds to nothing has no sign.
    if off.abs() < 0.05 { 0.0 } else { off }
}

/// What is claimed of a row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Simulated within the tolerance, and neither fitted on it nor bound to come out by what was.
    Reproduced,
    /// Within the tolerance, but little else could have come out: it follows from fitted figures or from another row.
    Follows,
    /// Further off in per cent than the tolerance, but no more than a published figure of whole units can tell.
    Rounding,
    /// A parameter was fitted on it: it says nothing about the simulator.
    Calibration,
    /// What is simulated was chosen among several readings because it comes out.
    Decided,
    /// Simulated, and further away.
    Missed,
    /// What it depends on is not published or not modelled.
    NotModelled,
}

impl Verdict {
    fn text(self) -> &'static str {
        match self {
            Self::Reproduced => "reproduced",
            Self::Follows => "follows",
            Self::Rounding => "within rounding",
            Self::Calibration => "calibration point",
            Self::Decided => "decided on it",
            Self::Missed => "**not reproduced**",
            Self::NotModelled => "cannot be modelled",
        }
    }

    /// Whether two figures bear the verdict out.
    fn holds(self, published: f64, simulated: f64) -> bool {
        let difference = off(published, simulated).abs();
        let within = difference <= TOLERANCE;
        // A tenth of the unit is all that an estimate beside whole units can claim.
        let apart = ((simulated - published).abs() * 10.0).round() / 10.0;
        match self {
            Self::Reproduced | Self::Follows | Self::Decided => within,
            Self::Rounding => !within && apart <= 0.5,
            // A parameter that was fitted on a figure gives that figure.
            Self::Calibration => difference < 0.05,
            // A verdict that has become too modest is as wrong as one that was too proud.
            Self::Missed => !within,
            Self::NotModelled => true,
        }
    }
}

/// A published figure beside the simulated one.
pub struct Row {
    pub setting: String,
    pub published: String,
    pub simulated: String,
    /// In per cent of the published figure.
    pub difference: Option<String>,
    pub verdict: Verdict,
    pub why: String,
}

impl Row {
    /// A figure of so many digits after the point, in a unit.
    pub fn new(
        (setting, unit, digits): (impl Into<String>, &str, usize),
        (published, simulated): (f64, f64),
        verdict: Verdict,
        why: impl Into<String>,
    ) -> Self {
        let difference = off(published, simulated);
        let (setting, why) = (setting.into(), why.into());
        assert!(verdict.holds(published, simulated), "{setting}: {published}, {simulated}");
        Self {
            setting,
            published: format!("{published:.digits$} {unit}").trim_end().to_owned(),
            simulated: format!("{simulated:.digits$} {unit}").trim_end().to_owned(),
            difference: Some(format!("{difference:+.1} %")),
            verdict,
            why,
        }
    }

    /// The same where whole units were published, about or exactly: they bear no decimals, and neither do per cents of
    /// them.
    pub fn coarse(
        (setting, unit, about): (impl Into<String>, &str, &str),
        (published, simulated): (f64, f64),
        verdict: Verdict,
        why: impl Into<String>,
    ) -> Self {
        let digits = if simulated < 0.1 { 2 } else { 1 };
        let row = Self::new((setting, unit, digits), (published, simulated), verdict, why);
        let difference = off(published, simulated);
        let difference = if difference.abs() < 0.5 { 0.0 } else { difference };
        Self {
            published: format!("{about}{published:.0} {unit}"),
            difference: Some(format!("{difference:+.0} %")),
            ..row
        }
    }

    /// A figure that is not compared.
    pub fn unknown(
        setting: impl Into<String>,
        published: String,
        simulated: String,
        why: impl Into<String>,
    ) -> Self {
        let (setting, why, difference) = (setting.into(), why.into(), None);
        Self { setting, published, simulated, difference, verdict: Verdict::NotModelled, why }
    }
}

/// The rows of one source or of several that belong together.
pub struct Section {
    pub title: &'static str,
    pub sources: Vec<&'static Source>,
    pub rows: Vec<Row>,
    /// How the figures come about, what was fitted, what was tried: paragraphs and lists.
    pub text: Vec<String>,
}

/// The columns of the summary: what is counted together.
const COLUMNS: [(&str, &[Verdict]); 6] = [
    ("reproduced", &[Verdict::Reproduced]),
    ("follows", &[Verdict::Follows]),
    ("within rounding", &[Verdict::Rounding]),
    ("not reproduced", &[Verdict::Missed]),
    ("cannot be modelled", &[Verdict::NotModelled]),
    ("fitted or decided on", &[Verdict::Calibration, Verdict::Decided]),
];

/// How many rows there are, and how many in each column.
fn counts(section: &Section) -> Vec<usize> {
    let in_column = |(_, verdicts): (&str, &[Verdict])| {
        section.rows.iter().filter(|row| verdicts.contains(&row.verdict)).count()
    };
    std::iter::once(section.rows.len()).chain(COLUMNS.map(in_column)).collect()
}

/// The whole report: what is compared, the score, the sections, and what was left out.
pub fn markdown(opening: &str, sections: &[Section], left_out: &str) -> String {
    let mut text = format!("# Published figures beside simulated ones\n\n{opening}\n\n");
    let names = COLUMNS.map(|(name, _)| name).join(" | ");
    let _ =
        writeln!(text, "| source | pairs | {names} |\n|---|{}", "---:|".repeat(1 + COLUMNS.len()));
    let line = |text: &mut String, name: &str, counts: &[usize]| {
        let counts: Vec<String> = counts.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "| {name} | {} |", counts.join(" | "));
    };
    let mut sums = vec![0; 1 + COLUMNS.len()];
    for section in sections {
        let counts = counts(section);
        assert_eq!(counts[0], counts[1..].iter().sum::<usize>(), "every verdict has a column");
        sums.iter_mut().zip(&counts).for_each(|(sum, count)| *sum += count);
        line(&mut text, section.title, &counts);
    }
    line(&mut text, "**all**", &sums);
    let (reproduced, follows, rounding, missed) = (sums[1], sums[2], sums[3], sums[4]);
    let checkable = reproduced + follows + rounding + missed;
    let _ = writeln!(
        text,
        "\nThe score: of {checkable} pairs that can be checked {reproduced} are reproduced and {missed} are not; \
         {follows} more agree because they follow from the others or from a fit, {rounding} within the rounding of \
         the published figure. {} are not checked: fitted or decided on, or beyond what is modelled.",
        sums[5] + sums[6],
    );
    for section in sections {
        section.write(&mut text);
    }
    let _ = writeln!(text, "\n## What was left out\n\n{left_out}");
    text
}

impl Section {
    fn write(&self, text: &mut String) {
        let _ = writeln!(text, "\n## {}\n", self.title);
        for source in &self.sources {
            let Source { name, url, date, setting } = source;
            let _ = writeln!(text, "- [{name}]({url}) ({date}): {setting}.");
        }
        text.push_str("\n| setting | published | simulated | difference | verdict |\n");
        text.push_str("|---|---:|---:|---:|---|\n");
        let mut notes: Vec<&str> = Vec::new();
        for row in &self.rows {
            let difference = row.difference.as_deref().unwrap_or("–");
            let mut verdict = row.verdict.text().to_owned();
            if !row.why.is_empty() {
                let known = notes.iter().position(|&note| note == row.why);
                let number = known.unwrap_or_else(|| {
                    notes.push(&row.why);
                    notes.len() - 1
                });
                let _ = write!(verdict, " ({})", number + 1);
            }
            let Row { setting, published, simulated, .. } = row;
            let _ = writeln!(
                text,
                "| {setting} | {published} | {simulated} | {difference} | {verdict} |"
            );
        }
        for (n, note) in notes.iter().enumerate() {
            text.push_str(if n == 0 { "\n" } else { "" });
            let _ = writeln!(text, "{}. {note}", n + 1);
        }
        for paragraph in &self.text {
            let _ = writeln!(text, "\n{paragraph}");
        }
    }
}
