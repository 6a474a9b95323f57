//! The built-in manifests against the figures of the checkpoints they were made from.

use expect_test::expect_file;
use vramplan::model::builtin;

/// Name, component, class, tensors, bytes, root bytes and every list as `path count smallest largest`.
fn figures() -> String {
    let mut text = String::new();
    for name in builtin::names() {
        let manifest = builtin::load(name).unwrap().unwrap();
        assert_eq!(manifest.model, name);
        for component in &manifest.components {
            let class = component.class.as_deref().unwrap_or_default();
            let (count, bytes) =
                (component.tensor_count(&manifest), component.total_bytes(&manifest));
            let root = component.root.bytes();
            text += &format!(
                "{name} {} {class}: {count} tensors, {} bytes, root {}\n",
                component.name,
                bytes.get(),
                root.get()
            );
            let mut lists: Vec<(&str, Vec<u64>)> = Vec::new();
            for block in component.blocks(&manifest) {
                match lists.iter_mut().find(|(list, _)| *list == block.list) {
                    Some((_, sizes)) => sizes.push(block.bytes().get()),
                    None => lists.push((block.list, vec![block.bytes().get()])),
                }
            }
            for (list, sizes) in lists {
                let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
                text += &format!(
                    "  {list}: {} blocks of {least} to {most}, {} in all\n",
                    sizes.len(),
                    sizes.iter().sum::<u64>()
                );
            }
        }
    }
    text
}

#[test]
fn they_hold_the_figures_of_their_checkpoints() {
    expect_file!["builtin.txt"].assert_eq(&figures());
}

#[test]
fn they_are_sorted_and_written_as_we_write() {
    assert!(builtin::names().is_sorted());
    assert_eq!(builtin::names().count(), 7);
    assert!(builtin::load("flux9").is_none());
    for &(name, text) in builtin::MANIFESTS {
        assert_eq!(builtin::load(name).unwrap().unwrap().to_yaml().unwrap(), text, "{name}");
    }
}
