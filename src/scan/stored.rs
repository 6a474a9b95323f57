//! What reading gives: stored tensors with their places, and components not yet cut into blocks.

use std::ops::Range;

use super::{MAX_NAME, MAX_PROBLEMS, MAX_TENSORS};
use crate::error::{Error, Problem, Result};
use crate::model::TensorSpec;

/// A tensor as a file stores it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its full name, element type and shape (outermost dimension first).
    pub spec: TensorSpec,
    /// Its bytes, counted from the start of the file's data.
    pub range: Range<u64>,
    /// Which of the component's files holds it.
    pub file: usize,
}

/// A component as found: what it is called, what it is, what it stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundComponent {
    /// Its name in the pipeline, or a name that follows from its class.
    pub name: String,
    /// Its class, where the checkpoint names it; a GGUF's architecture.
    pub class: Option<String>,
    /// Its tensors; tied ones are still there.
    pub tensors: Vec<Stored>,
    /// The checkpoint says that input and output embeddings are one tensor.
    pub tied_embeddings: bool,
    /// The component was read from GGUF, where names follow the architecture.
    pub gguf: bool,
    /// Its files below the checkpoint's folder; [`Stored::file`] counts them.
    pub files: Vec<String>,
    /// Where the data of a GGUF file begins; that of a safetensors file follows its header.
    pub data_start: Option<u64>,
}

/// A checkpoint whose headers were read and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The path as messages show it.
    pub path: String,
    /// The model's name: the folder's or the file's, in lower case.
    pub name: String,
    /// The pipeline's class, where it is a pipeline.
    pub pipeline: Option<String>,
    /// The components in the order of the pipeline.
    pub components: Vec<FoundComponent>,
    /// What the user should know about how the files were chosen.
    pub warnings: Vec<String>,
}

/// The problems of one file, of which the first [`MAX_PROBLEMS`] are kept.
#[derive(Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Adds a problem.
    pub fn add(
        &mut self,
        place: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) {
        if self.0.len() < MAX_PROBLEMS {
            self.0.push(Problem::new(place, found, expected));
        }
    }

    /// Fails where there are any.
    pub fn finish(self, file: &str) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(Error::Input { file: file.to_owned(), problems: self.0 })
    }
}

/// How messages name a tensor: long names are cut.
pub fn tensor_place(name: &str) -> String {
    if name.len() <= MAX_NAME {
        return format!("tensor {name:?}");
    }
    let cut: String = name.chars().take(60).collect();
    format!("tensor {cut:?}… ({} bytes)", name.len())
}

/// Refuses names that no manifest could hold.
pub fn check_name(name: &str, problems: &mut Problems) {
    if name.is_empty() || name.len() > MAX_NAME {
        let found = format!("a name of {} bytes", name.len());
        problems.add(tensor_place(name), found, format!("1 to {MAX_NAME} bytes"));
    }
}

/// Refuses a file with more tensors than any model has.
pub fn check_count(file: &str, place: &str, count: u64) -> Result<()> {
    if count <= MAX_TENSORS as u64 {
        return Ok(());
    }
    let expected = format!("at most {MAX_TENSORS}");
    Err(Error::input(file, Problem::new(place, format!("{count} tensors"), expected)))
}
