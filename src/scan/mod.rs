//! Turns checkpoint headers into a manifest: components, block lists, order of execution, tensors, bytes.
//!
//! ```text
//! Folder ─read─▶ Checkpoint ─manifest─▶ Scanned
//! headers        components with        manifest, warnings,
//! only           their stored tensors   tied tensors left out
//! ```
//!
//! [`read`] does all the reading, through the [`Folder`] trait, and never more than the headers. What it gives, a
//! [`Checkpoint`], is checked: every tensor's bytes follow from its type and shape, lie inside its file and
//! overlap no other's. [`Checkpoint::manifest`] is pure: names become block lists, the class gives their order.
//!
//! | file | turns |
//! |---|---|
//! | `safetensors`, `gguf` | one file's header into stored tensors |
//! | `index` | a shard index into its shards |
//! | `detect` | a path into the components it holds |
//! | `ties` | shared tensors into one each |
//! | `lists` | tensor names into block lists |
//! | `classes`, `order` | a class into its order of execution |
//! | `assemble` | all of it into the manifest |
//!
//! Headers are hostile until proven otherwise: no length is believed before it is compared with what is there,
//! none above [`MAX_HEADER`] is read, and every problem of a header is reported with its place.

mod assemble;
mod classes;
mod detect;
mod folder;
mod gguf;
mod index;
mod json;
mod lists;
mod natural;
mod order;
mod safetensors;
mod stored;
mod summary;
mod ties;

pub use assemble::{Choices, Scanned, UnknownName};
pub use detect::{Source, read};
pub use folder::{Folder, MemoryFolder, Opened};
pub use gguf::read_header as read_gguf_header;
pub use index::{Index, read_index};
pub use natural::compare as natural_compare;
pub use safetensors::read_header as read_safetensors_header;
pub use stored::{Checkpoint, FoundComponent, Stored};
pub use summary::{ComponentSummary, ListSummary, Summary};

/// The longest header that is read, bytes: what the safetensors library allows.
pub const MAX_HEADER: u64 = 100_000_000;

/// Tensors that one file may name; the largest published checkpoints hold a fifth of that in all their shards.
pub const MAX_TENSORS: usize = 1_000_000;

/// The longest tensor name, bytes.
const MAX_NAME: usize = 1024;

/// Problems that are kept of one file; a hostile header could have a million.
const MAX_PROBLEMS: usize = 100;
