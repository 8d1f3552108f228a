//! No two modules import each other, directly or through others. A name that a parent re-exports counts as an import of
//! the module that defines it. A child may import its parent, and a parent its children.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::architecture::without_tests;

/// The path of a module from the crate's root.
type Module = Vec<String>;

struct Source {
    /// Paths of all imports, as written.
    imports: Vec<Vec<String>>,
    /// Re-exported names, and the paths they come from.
    exports: BTreeMap<String, Vec<String>>,
}

fn sources(root: &Path, folder: &Path, found: &mut BTreeMap<Module, Source>) {
    for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            sources(root, &path, found);
        } else if path.extension().is_some_and(|end| end == "rs") && path.file_stem().unwrap() != "tests" {
            let name = path.with_extension("");
            let module = name.strip_prefix(root).unwrap().iter().map(|part| part.to_str().unwrap().to_owned());
            found.insert(module.collect(), source(&without_tests(&std::fs::read_to_string(&path).unwrap())));
        }
    }
}

fn source(code: &str) -> Source {
    let mut source = Source { imports: Vec::new(), exports: BTreeMap::new() };
    for statement in code.split(';') {
        let begins = |word: &str| statement.rfind(&format!("\n{word}")).map(|at| &statement[at + 1 + word.len()..]);
        let exported = ["pub use ", "pub(super) use ", "pub(crate) use "].iter().find_map(|word| begins(word));
        let Some(tree) = exported.or_else(|| begins("use ")) else { continue };
        let paths = paths(&tree.replace(" as ", "@").split_whitespace().collect::<String>());
        if exported.is_some() {
            let name = |path: &Vec<String>| path.last().cloned().unwrap_or_default();
            source.exports.extend(paths.iter().map(|path| (name(path), path.clone())));
        }
        source.imports.extend(paths);
    }
    source
}

/// The paths in the tree of a `use` without spaces and with `@` for `as`: `a::{b,c::d@e}` has `a::b` and `a::c::d`.
fn paths(tree: &str) -> Vec<Vec<String>> {
    let Some((stem, branches)) = tree.split_once('{') else {
        return vec![tree.split("::").map(|part| part.split('@').next().unwrap_or(part).to_owned()).collect()];
    };
    let (mut depth, mut all, mut branch) = (0, Vec::new(), String::new());
    for character in branches.strip_suffix('}').unwrap_or(branches).chars().chain([',']) {
        depth += i32::from(character == '{') - i32::from(character == '}');
        if character == ',' && depth == 0 {
            all.extend(paths(&format!("{stem}{}", std::mem::take(&mut branch))));
        } else {
            branch.push(character);
        }
    }
    all
}

/// The module that `path`, written in module `from`, names or takes its last name from.
fn target(from: &Module, path: &[String], all: &BTreeMap<Module, Source>) -> Option<Module> {
    let (mut at, mut rest) = match path.first()?.as_str() {
        "crate" => (Module::new(), &path[1..]),
        "self" => (from.clone(), &path[1..]),
        "super" => (from.clone(), path),
        _ if all.contains_key(&[from.as_slice(), &path[..1]].concat()) => (from.clone(), path),
        _ => return None,
    };
    loop {
        match rest {
            [word, more @ ..] if word == "super" => {
                at.pop();
                rest = more;
            }
            [word, more @ ..] if all.contains_key(&[at.as_slice(), std::slice::from_ref(word)].concat()) => {
                at.push(word.clone());
                rest = more;
            }
            [name, ..] => {
                let export = all.get(&at).and_then(|source| source.exports.get(name));
                return export.and_then(|path| target(&at, path, all)).or(Some(at));
            }
            [] => return Some(at),
        }
    }
}

/// The modules that each module imports, except its ancestors and descendants.
fn imports(all: &BTreeMap<Module, Source>) -> BTreeMap<Module, BTreeSet<Module>> {
    let of = |(module, source): (&Module, &Source)| {
        let targets = source.imports.iter().filter_map(|path| target(module, path, all));
        let is_line = |other: &Module| other.starts_with(module) || module.starts_with(other);
        (module.clone(), targets.filter(|other| !is_line(other)).collect())
    };
    all.iter().map(of).collect()
}

/// The modules on a circle: those that reach themselves.
fn circles(imports: &BTreeMap<Module, BTreeSet<Module>>) -> Vec<String> {
    let reaches_itself = |module: &&Module| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![*module]);
        while let Some(at) = next.pop() {
            for target in imports.get(at).into_iter().flatten() {
                if target == *module {
                    return true;
                }
                if seen.insert(target) {
                    next.push(target);
                }
            }
        }
        false
    };
    imports.keys().filter(reaches_itself).map(|module| module.join("::")).collect()
}

#[test]
fn no_module_imports_itself_through_others() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = BTreeMap::new();
    sources(&root, &root, &mut all);
    let imports = imports(&all);
    assert!(imports.values().map(BTreeSet::len).sum::<usize>() > 200, "few imports were found");
    assert_eq!(circles(&imports), [""; 0]);
}

#[test]
fn a_circle_through_a_reexported_name_is_found() {
    let module = |name: &str| name.split("::").map(str::to_owned).collect::<Module>();
    let all = [
        ("a", "//! A\npub use one::One;\n"),
        ("a::one", "//! One\nuse std::io;\nuse super::{two::Two, three};\n"),
        ("a::two", "//! Two\nuse super::One as Other;\n"),
        ("reason", "//! Reason\nuse crate::a::{b, c::{d, four}};\n"),
        ("a::c", "//! C\n"),
        ("a::c::four", "//! Four\nuse crate::reason::Reason;\n"),
        ("a::three", "//! Three\nuse super::super::b::B;\n"),
        ("b", "//! B\nuse crate::a::three;\n"),
        ("c", "//! C\nuse crate::{a::One, b};\n"),
    ];
    let all = all.iter().map(|(name, code)| (module(name), source(code))).collect();
    assert_eq!(circles(&imports(&all)), ["a::c::four", "a::one", "a::three", "a::two", "b", "reason"]);
}
