//! Finds the image files under the paths that a user passes, and derives each image's name. Two files never get the
//! same name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// File extensions of images. In directories, other files are skipped.
const ENDINGS: [&str; 12] = ["bmp", "gif", "jpeg", "jpg", "pbm", "pgm", "png", "pnm", "ppm", "tif", "tiff", "webp"];

#[derive(Debug, Default)]
pub struct Found {
    /// Image files by image name.
    pub images: BTreeMap<String, PathBuf>,
    /// One sentence for each file that can't be published.
    pub refused: Vec<String>,
    /// Number of skipped files: without the extension of an image, or links to directories.
    pub skipped: usize,
}

/// Finds image files. The image's name is the file name or, for a directory, the path relative to that directory.
pub fn find(paths: &[PathBuf]) -> Found {
    let mut found = Found::default();
    for path in paths {
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => found.directory(path, path),
            Ok(_) => found.image(path.parent().unwrap_or(Path::new("")), path),
            Err(error) => found.refused.push(format!("{path:?} can't be read: {error}")),
        }
    }
    found
}

impl Found {
    fn directory(&mut self, root: &Path, directory: &Path) {
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) => return self.refused.push(format!("{directory:?} can't be read: {error}")),
        };
        for entry in entries {
            match entry.and_then(|entry| Ok((entry.path(), entry.file_type()?))) {
                Ok((path, kind)) if kind.is_dir() => self.directory(root, &path),
                // Links to directories are not followed: they can form a cycle.
                Ok((path, _)) if path.is_dir() || !ends_as_image(&path) => self.skipped += 1,
                Ok((path, _)) => self.image(root, &path),
                Err(error) => self.refused.push(format!("an entry of {directory:?} can't be read: {error}")),
            }
        }
    }

    fn image(&mut self, root: &Path, path: &Path) {
        let parts = path.strip_prefix(root).unwrap_or(path).iter().map(|part| part.to_str());
        let Some(parts) = parts.collect::<Option<Vec<&str>>>() else {
            return self.refused.push(format!("{path:?} has a name that is not UTF-8; rename it"));
        };
        let name = parts.join("/");
        if let Some(other) = self.images.get(&name) {
            let clash = format!("{path:?} would be stored as {name:?}, like {other:?}; publish it from another root");
            return self.refused.push(clash);
        }
        self.images.insert(name, path.to_owned());
    }
}

fn ends_as_image(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    ENDINGS.iter().any(|known| known.eq_ignore_ascii_case(ending))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn names_are_paths_inside_the_directory_given() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        std::fs::create_dir_all(root.join("north/plot 4")).unwrap();
        for file in ["a.png", "north/plot 4/b.JPG", "north/notes.txt"] {
            std::fs::write(root.join(file), "").unwrap();
        }
        std::os::unix::fs::symlink(root, root.join("north/loop")).unwrap();
        let notes = root.join("north/notes.txt");

        let found = find(&[root.to_owned(), notes, root.join("absent.png")]);

        let names: Vec<&str> = found.images.keys().map(String::as_str).collect();
        assert_eq!(names, ["a.png", "north/plot 4/b.JPG", "notes.txt"]);
        assert_eq!((found.skipped, found.refused.len()), (2, 1));
        assert!(found.refused[0].contains("absent.png"), "{:?}", found.refused);
    }

    #[test]
    fn two_files_of_one_name_are_not_both_published() {
        let directory = tempfile::tempdir().unwrap();
        for plot in ["one", "two"] {
            std::fs::create_dir(directory.path().join(plot)).unwrap();
            std::fs::write(directory.path().join(plot).join("tile.png"), "").unwrap();
        }
        let found = find(&[directory.path().join("one"), directory.path().join("two")]);
        assert_eq!(found.images.len(), 1);
        assert!(found.refused[0].contains(r#"would be stored as "tile.png""#), "{:?}", found.refused);
    }
}
