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
    /// Simulated within the tolerance, and nothing was fitted on it.
    Reproduced,
    /// A parameter was fitted on it: it says nothing about the simulator.
    Calibration,
    /// Simulated, and further away.
    Missed,
    /// What it depends on is not published or not modelled.
    NotModelled,
}

impl Verdict {
    fn text(self) -> &'static str {
        match self {
            Self::Reproduced => "reproduced",
            Self::Calibration => "calibration point",
            Self::Missed => "**not reproduced**",
            Self::NotModelled => "cannot be modelled",
        }
    }
}

/// A published figure beside the simulated one.
pub struct Row {
    pub setting: String,
    pub published: String,
    pub simulated: String,
    /// In per cent of the published figure.
    pub difference: Option<f64>,
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
        let within = difference.abs() <= TOLERANCE;
        match verdict {
            Verdict::Reproduced => assert!(within, "{setting}: {published}, {simulated}"),
            // A verdict that has become too modest is as wrong as one that was too proud.
            Verdict::Missed => assert!(!within, "{setting}: {published}, {simulated}"),
            Verdict::Calibration | Verdict::NotModelled => {}
        }
        Self {
            setting,
            published: format!("{published:.digits$} {unit}"),
            simulated: format!("{simulated:.digits$} {unit}"),
            difference: Some(difference),
            verdict,
            why,
        }
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

impl Section {
    fn count(&self, verdict: Verdict) -> usize {
        self.rows.iter().filter(|row| row.verdict == verdict).count()
    }
}

/// The whole report.
pub fn markdown(opening: &str, sections: &[Section]) -> String {
    let mut text = format!("# Published figures beside simulated ones\n\n{opening}\n\n");
    let verdicts =
        [Verdict::Reproduced, Verdict::Missed, Verdict::NotModelled, Verdict::Calibration];
    text.push_str(
        "| source | pairs | reproduced | not reproduced | cannot be modelled | calibration points |\n\
         |---|---:|---:|---:|---:|---:|\n",
    );
    let line = |text: &mut String, name: &str, counts: &[usize]| {
        let counts: Vec<String> = counts.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "| {name} | {} |", counts.join(" | "));
    };
    let mut sums = vec![0; verdicts.len() + 1];
    for section in sections {
        let mut counts = vec![section.rows.len()];
        counts.extend(verdicts.map(|verdict| section.count(verdict)));
        sums.iter_mut().zip(&counts).for_each(|(sum, count)| *sum += count);
        line(&mut text, section.title, &counts);
    }
    line(&mut text, "**all**", &sums);
    for section in sections {
        section.write(&mut text);
    }
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
            let difference = row.difference.map_or("–".to_owned(), |d| format!("{d:+.1} %"));
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
