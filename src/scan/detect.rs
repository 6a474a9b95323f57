//! Turns a path into the components it holds: a pipeline folder, a component folder, an index, or one file.

use std::io::ErrorKind;

use serde::Deserialize;
use serde_json::Value;

use super::folder::{self, Folder};
use super::json::{self, UniqueMap, Within};
use super::stored::{Checkpoint, FoundComponent, Problems, Stored};
use super::{gguf, index, safetensors};
use crate::error::{Error, Problem, Result};

/// Where a checkpoint is.
pub struct Source<'a> {
    /// The folder; all reading stays inside.
    pub folder: &'a dyn Folder,
    /// The folder's own name; models are named after it.
    pub folder_name: &'a str,
    /// The file in it that was asked for; none means the folder.
    pub file: Option<&'a str>,
}

/// Endings of file names that hold weights in formats that execute code when read.
const PICKLES: &[&str] = &[".bin", ".pt", ".pth", ".ckpt"];

/// Words in a class's name that say it has no weights.
const WEIGHTLESS: &[&str] = &["Scheduler", "Tokenizer", "Processor", "FeatureExtractor"];

/// Stems that say nothing about the model.
const GENERIC_STEMS: &[&str] = &["model", "diffusion_pytorch_model"];

/// What of `config.json` matters here.
#[derive(Debug, Default, Deserialize)]
#[serde(expecting = "an object")]
struct Config {
    #[serde(default)]
    _class_name: Option<String>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    tie_word_embeddings: Option<bool>,
}

/// The files of one component.
enum Weights {
    Single(String),
    Index(String),
    Gguf(String),
}

/// Reads the headers of a checkpoint.
pub fn read(source: &Source) -> Result<Checkpoint> {
    let path = source.folder.shown(source.file.unwrap_or_default());
    let name = model_name(source);
    let empty =
        Checkpoint { path, name, pipeline: None, components: Vec::new(), warnings: Vec::new() };
    let Some(file) = source.file else {
        let names = list(source.folder, "")?;
        if names.iter().any(|name| name == "model_index.json") {
            return read_pipeline(source.folder, empty);
        }
        return read_alone(source.folder, &names, None, empty);
    };
    if file == "model_index.json" {
        return read_pipeline(source.folder, empty);
    }
    let names = list(source.folder, "").unwrap_or_default();
    if file == "config.json" {
        return read_alone(source.folder, &names, None, empty);
    }
    let weights = if file.ends_with(".safetensors") {
        Weights::Single(file.to_owned())
    } else if file.ends_with(".json") && file.contains(".safetensors.index.") {
        Weights::Index(file.to_owned())
    } else if file.ends_with(".gguf") || is_gguf(source.folder, file)? {
        Weights::Gguf(file.to_owned())
    } else {
        let expected = "a .safetensors, .safetensors.index.json or .gguf file, or a model's folder";
        let found = if PICKLES.iter().any(|end| file.ends_with(end)) {
            "pickled weights"
        } else {
            "a file of another format"
        };
        return Err(Error::input(empty.path, Problem::new("name", found, expected)));
    };
    read_alone(source.folder, &names, Some(weights), empty)
}

/// The folder's name or the file's, whichever says more, in lower case.
fn model_name(source: &Source) -> String {
    let stem = source.file.map(|file| {
        let index = file.split_once(".safetensors.index.").map(|(stem, _)| stem);
        let known = || file.strip_suffix(".safetensors").or(file.strip_suffix(".gguf"));
        index.or_else(known).unwrap_or(file)
    });
    let named = stem.filter(|stem| {
        let generic = |word: &str| stem.split(['.', '-']).next() == Some(word);
        !GENERIC_STEMS.iter().any(|word| generic(word)) && !stem.ends_with(".json")
    });
    named.unwrap_or(source.folder_name).to_lowercase()
}

fn is_gguf(source: &dyn Folder, file: &str) -> Result<bool> {
    let mut magic = [0; 4];
    let mut opened = folder::open(source, file)?;
    match opened.reader.read_exact(&mut magic) {
        Ok(()) => Ok(&magic == b"GGUF"),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(folder::unreadable(source, file, error)),
    }
}

fn list(source: &dyn Folder, path: &str) -> Result<Vec<String>> {
    source.list(path).map_err(|error| folder::unreadable(source, path, error))
}

/// Reads the components that a pipeline names, in its order.
fn read_pipeline(source: &dyn Folder, mut checkpoint: Checkpoint) -> Result<Checkpoint> {
    let path = "model_index.json";
    let file = source.shown(path);
    let text = folder::read_whole(source, path)?;
    let UniqueMap(entries): UniqueMap<Value> = json::parse(&file, Within::File, &text)?;
    let mut problems = Problems::default();
    for (name, value) in entries {
        if name == "_class_name" {
            checkpoint.pipeline = value.as_str().map(str::to_owned);
        }
        let Value::Array(pair) = value else { continue };
        let [Value::String(library), Value::String(class)] = pair.as_slice() else { continue };
        let weightless = WEIGHTLESS.iter().any(|word| class.contains(word));
        let expected = format!("the weights of {library}.{class}");
        let place = format!("{name:?}");
        if name.contains(['/', '\\', '.', '\0']) || name.is_empty() {
            problems.add(place, "a name that is no plain folder", "a component's folder");
            continue;
        }
        let names = match source.list(&name) {
            Ok(names) => names,
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                if !weightless {
                    problems.add(place, format!("no folder {name:?}"), expected);
                }
                continue;
            }
            Err(error) => return Err(folder::unreadable(source, &name, error)),
        };
        let mut warnings = Vec::new();
        match find_weights(&source.shown(&name), &names, &mut warnings) {
            Ok(weights) => {
                let config = read_config(source, &name, &names)?;
                let mut component = read_component(source, &name, &config, weights)?;
                component.name = name;
                component.class = Some(class.clone());
                checkpoint.components.push(component);
                checkpoint.warnings.extend(warnings);
            }
            Err(_) if weightless => {}
            Err(found) => problems.add(place, found, expected),
        }
    }
    problems.finish(&file)?;
    if checkpoint.components.is_empty() {
        let expected = "entries [library, class] whose folders hold weights";
        return Err(Error::input(file, Problem::new("document", "no component", expected)));
    }
    Ok(checkpoint)
}

/// Reads a checkpoint of a single component.
fn read_alone(
    source: &dyn Folder,
    names: &[String],
    weights: Option<Weights>,
    mut checkpoint: Checkpoint,
) -> Result<Checkpoint> {
    let config = read_config(source, "", names)?;
    let weights = match weights {
        Some(weights) => weights,
        None => {
            find_weights(&source.shown(""), names, &mut checkpoint.warnings).map_err(|found| {
                let expected =
                    "model_index.json, one .safetensors file or index, or one .gguf file";
                Error::input(source.shown(""), Problem::new("folder", found, expected))
            })?
        }
    };
    if let Weights::Single(file) = &weights
        && shard_of(file)
    {
        let text =
            format!("{file} is one shard of several; scan its index or folder for all of it");
        checkpoint.warnings.push(text);
    }
    checkpoint.components.push(read_component(source, "", &config, weights)?);
    Ok(checkpoint)
}

/// `model-00001-of-00004`, by its name.
fn shard_of(file: &str) -> bool {
    let number = |text: &str| text.len() == 5 && text.bytes().all(|c| c.is_ascii_digit());
    let Some((left, right)) = file.rsplit_once("-of-") else { return false };
    left.rsplit_once('-').is_some_and(|(_, n)| number(n)) && right.get(..5).is_some_and(number)
}

fn read_config(source: &dyn Folder, inside: &str, names: &[String]) -> Result<Config> {
    if !names.iter().any(|name| name == "config.json") {
        return Ok(Config::default());
    }
    let path = folder::join(inside, "config.json");
    let text = folder::read_whole(source, &path)?;
    json::parse(&source.shown(&path), Within::File, &text)
}

/// Which file to read; where there is no answer, what was found instead.
fn find_weights(
    shown: &str,
    names: &[String],
    warnings: &mut Vec<String>,
) -> std::result::Result<Weights, String> {
    let is_index = |name: &&String| name.ends_with(".json") && name.contains(".safetensors.index.");
    let indices: Vec<&String> = names.iter().filter(is_index).collect();
    let single = |name: &&String| name.ends_with(".safetensors") && !shard_of(name);
    let singles: Vec<&String> = names.iter().filter(single).collect();
    let ggufs: Vec<&String> = names.iter().filter(|name| name.ends_with(".gguf")).collect();
    let mut also = |taken: &str, others: usize| {
        if others > 0 {
            warnings.push(format!("{shown}: read {taken}, not its {others} other checkpoints"));
        }
    };
    let others = singles.len() + indices.len();
    for stem in GENERIC_STEMS {
        let plain = format!("{stem}.safetensors");
        if names.contains(&plain) {
            also(&plain, others - 1);
            return Ok(Weights::Single(plain));
        }
        let index = format!("{stem}.safetensors.index.json");
        if names.contains(&index) {
            also(&index, others - 1);
            return Ok(Weights::Index(index));
        }
    }
    match (singles.as_slice(), indices.as_slice(), ggufs.as_slice()) {
        ([file], [], _) => {
            warnings.push(format!("{shown}: read {file}, the only checkpoint there"));
            Ok(Weights::Single((*file).clone()))
        }
        ([], [file], _) => {
            warnings.push(format!("{shown}: read {file}, the only checkpoint there"));
            Ok(Weights::Index((*file).clone()))
        }
        ([], [], [file]) => Ok(Weights::Gguf((*file).clone())),
        ([], [], []) if names.iter().any(|name| shard_of(name)) => {
            Err("shards without their index".to_owned())
        }
        ([], [], []) if names.iter().any(|n| PICKLES.iter().any(|end| n.ends_with(end))) => {
            Err("pickled weights only".to_owned())
        }
        ([], [], []) => Err("no weights".to_owned()),
        _ => {
            let several: Vec<&str> =
                [singles, indices, ggufs].concat().into_iter().map(String::as_str).collect();
            Err(format!("several checkpoints ({})", several.join(", ")))
        }
    }
}

fn read_component(
    source: &dyn Folder,
    inside: &str,
    config: &Config,
    weights: Weights,
) -> Result<FoundComponent> {
    let class = config._class_name.clone();
    let class = class.or_else(|| config.architectures.as_ref()?.first().cloned());
    let tied_embeddings = config.tie_word_embeddings.unwrap_or(false);
    let component =
        |class: Option<String>, tensors: Vec<Stored>, files: Vec<String>| FoundComponent {
            name: component_name(class.as_deref(), false).to_owned(),
            class,
            tensors,
            tied_embeddings,
            gguf: false,
            files,
            data_start: None,
        };
    match weights {
        Weights::Single(file) => {
            let path = folder::join(inside, &file);
            let opened = folder::open(source, &path)?;
            let tensors = safetensors::read_header(&source.shown(&path), opened)?;
            Ok(component(class, tensors, vec![path]))
        }
        Weights::Index(file) => {
            let path = folder::join(inside, &file);
            let text = folder::read_whole(source, &path)?;
            let index = index::read_index(&source.shown(&path), &text)?;
            let tensors = index::read_shards(source, inside, &path, &index)?;
            let files = index.shards.iter().map(|shard| folder::join(inside, shard)).collect();
            Ok(component(class, tensors, files))
        }
        Weights::Gguf(file) => {
            let path = folder::join(inside, &file);
            let shown = source.shown(&path);
            let header = gguf::read_header(&shown, folder::open(source, &path)?)?;
            if header.split_count > 1 {
                let found = format!("one of {} split files", header.split_count);
                let problem = Problem::new("split.count", found, "a whole file; merge them first");
                return Err(Error::input(shown, problem));
            }
            let class = Some(header.architecture);
            Ok(FoundComponent {
                name: component_name(class.as_deref(), true).to_owned(),
                gguf: true,
                data_start: Some(header.data_start),
                ..component(class, header.tensors, vec![path])
            })
        }
    }
}

/// The name of a checkpoint's only component, as a pipeline would call it.
fn component_name(class: Option<&str>, gguf: bool) -> &'static str {
    let Some(class) = class.filter(|_| !gguf) else { return "model" };
    let has = |word: &str| class.contains(word);
    match () {
        () if has("Autoencoder") => "vae",
        () if has("UNet") => "unet",
        () if has("Transformer2D") || has("Transformer3D") => "transformer",
        () if has("EncoderModel") || has("TextModel") => "text_encoder",
        () => "model",
    }
}
