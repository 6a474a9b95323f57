//! Turns what went wrong into one line for a person, a hint, and an exit code.
//!
//! There is one [`Error`] for the whole library; each variant is an attempted act and carries its evidence. Only
//! the command line prints it. Bad input files collect *all* their [`Problem`]s before failing, each with place,
//! what was found and what was expected. A budget that is too small is an answer ([`Infeasible`]), not a crash.

use std::fmt;

use serde::Serialize;

use crate::units::Bytes;

/// Result of anything in vramplan.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong, by the act that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line asks for something that does not exist or does not go together (exit code 2).
    #[error("{message}")]
    Usage {
        /// What was asked and what exists.
        message: String,
        /// What to try instead.
        hint: Option<String>,
    },
    /// An input file says something that cannot be right (exit code 3).
    #[error("{}", list_problems(.file, .problems))]
    Input {
        /// The file, or the name of a built-in document.
        file: String,
        /// Everything that is wrong with it, in the order of the file.
        problems: Vec<Problem>,
    },
    /// An input file cannot be read (exit code 3).
    #[error("cannot read {file}: {source}")]
    Read {
        /// The file as named by the user.
        file: String,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// An output cannot be written (exit code 1).
    #[error("cannot write {file}: {source}")]
    Write {
        /// The file as named by the user.
        file: String,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The budget is too small for any plan (exit code 4).
    #[error("{0}")]
    Infeasible(Infeasible),
    /// The backend is not there, or not yet (exit code 5).
    #[error("{what} is not available: {message}")]
    Backend {
        /// `the cuda backend`, say.
        what: &'static str,
        /// What is missing.
        message: String,
    },
    /// A run failed or broke its own plan (exit code 6).
    #[error("run failed: {0}")]
    Run(String),
    /// A run is slower than the one it is compared with, and that was asked for (exit code 7).
    #[error("slower: {0}")]
    Slower(String),
    /// A broken invariant of vramplan itself (exit code 1).
    #[error("internal error: {0}")]
    Internal(String),
}

/// Exit codes of the program, written once.
///
/// | code | means |
/// |---|---|
/// | 0 | done |
/// | 1 | unexpected |
/// | 2 | usage |
/// | 3 | bad input file |
/// | 4 | infeasible budget |
/// | 5 | backend unavailable |
/// | 6 | run failed or broke its own plan |
/// | 7 | slower than the run compared with, where `--fail-if-slower` asks |
impl Error {
    /// A usage error without a hint.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), hint: None }
    }

    /// A bad input file with a single problem.
    pub fn input(file: impl Into<String>, problem: Problem) -> Self {
        Self::Input { file: file.into(), problems: vec![problem] }
    }

    /// The process exit code, see the table above.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage { .. } => 2,
            Self::Input { .. } | Self::Read { .. } => 3,
            Self::Infeasible(_) => 4,
            Self::Backend { .. } => 5,
            Self::Run(_) => 6,
            Self::Slower(_) => 7,
            Self::Write { .. } | Self::Internal(_) => 1,
        }
    }

    /// What the user could try, where we know something.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Usage { hint, .. } => hint.clone(),
            Self::Infeasible(answer) => Some(answer.hint()),
            _ => None,
        }
    }
}

/// One thing wrong with an input: where, what was found, what was expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Where in the file: a path such as `components[0].blocks[2].kind`, a byte offset, or line and column.
    pub place: String,
    /// What is there.
    pub found: String,
    /// What should be there.
    pub expected: String,
}

impl Problem {
    /// A problem at `place`.
    pub fn new(
        place: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self { place: place.into(), found: found.into(), expected: expected.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: found {}, expected {}", self.place, self.found, self.expected)
    }
}

/// How many problems of one file are printed; the rest are counted.
const PROBLEMS_SHOWN: usize = 20;

fn list_problems(file: &str, problems: &[Problem]) -> String {
    use fmt::Write as _;
    let mut text = file.to_owned();
    if let [problem] = problems {
        let _ = write!(text, ": {problem}");
        return text;
    }
    let _ = write!(text, ": {} problems", problems.len());
    for problem in problems.iter().take(PROBLEMS_SHOWN) {
        let _ = write!(text, "\n  {problem}");
    }
    if problems.len() > PROBLEMS_SHOWN {
        let _ = write!(text, "\n  and {} more", problems.len() - PROBLEMS_SHOWN);
    }
    text
}

/// The answer to a budget that no plan fits: how much is missing and the smallest budget that works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Infeasible {
    /// What the smallest plan needs for weights (root, window, residents that cannot be streamed).
    #[serde(rename = "needed_bytes", serialize_with = "as_integer")]
    pub needed: Bytes,
    /// What the budget leaves for weights after the reserve.
    #[serde(rename = "available_bytes", serialize_with = "as_integer")]
    pub available: Bytes,
    /// Needed minus available; where the reserve alone exceeds the budget, that excess is included.
    #[serde(rename = "shortfall_bytes", serialize_with = "as_integer")]
    pub shortfall: Bytes,
    /// The smallest budget of that memory for which a plan exists.
    #[serde(rename = "smallest_budget_bytes", serialize_with = "as_integer")]
    pub smallest_budget: Bytes,
    /// What asks for the most: a component, or the reserve.
    pub because: String,
    /// The memory that is too small.
    pub memory: Memory,
}

/// A memory that has a budget.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Memory {
    /// Of the device.
    #[default]
    Vram,
    /// Of the host: the part of it that may be locked.
    Host,
}

fn as_integer<S: serde::Serializer>(
    size: &Bytes,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_u64(size.get())
}

impl Infeasible {
    fn hint(&self) -> String {
        let mib = self.smallest_budget.get().div_ceil(1 << 20);
        match self.memory {
            Memory::Vram => format!("the smallest budget that works is --vram {mib}MiB"),
            Memory::Host => format!("the smallest budget that works is --host {mib}MiB"),
        }
    }
}

impl fmt::Display for Infeasible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.memory == Memory::Host {
            return write!(
                f,
                "infeasible budget: {} needs {} of host memory, {} are there; {} short",
                self.because,
                self.needed.human(),
                self.available.human(),
                self.shortfall.human()
            );
        }
        write!(
            f,
            "infeasible budget: {} needs {} for weights, {} are left after the reserve; {} short",
            self.because,
            self.needed.human(),
            self.available.human(),
            self.shortfall.human()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn every_error_has_its_documented_exit_code() {
        let io = || std::io::Error::other("gone");
        let answer = Infeasible {
            needed: Bytes::new(5 << 20),
            available: Bytes::new(3 << 20),
            shortfall: Bytes::new(2 << 20),
            smallest_budget: Bytes::new(9 << 20),
            because: "transformer".into(),
            memory: Memory::Vram,
        };
        let codes = [
            (Error::usage("x"), 2),
            (Error::input("m.yaml", Problem::new("line 1", "a", "b")), 3),
            (Error::Read { file: "m".into(), source: io() }, 3),
            (Error::Infeasible(answer), 4),
            (Error::Backend { what: "the cuda backend", message: "no driver".into() }, 5),
            (Error::Run("stuck".into()), 6),
            (Error::Slower("x".into()), 7),
            (Error::Write { file: "m".into(), source: io() }, 1),
            (Error::Internal("x".into()), 1),
        ];
        for (error, code) in codes {
            assert_eq!(error.exit_code(), code, "{error}");
        }
    }

    #[test]
    fn several_problems_are_listed_together() {
        let problems = vec![
            Problem::new("components[0].name", "\"\"", "a name"),
            Problem::new("kinds.a.tensors[3]", "dtype \"bf17\"", "a known dtype"),
        ];
        let error = Error::Input { file: "m.yaml".into(), problems };
        expect![[r#"
            m.yaml: 2 problems
              components[0].name: found "", expected a name
              kinds.a.tensors[3]: found dtype "bf17", expected a known dtype"#]]
        .assert_eq(&error.to_string());
    }
}
