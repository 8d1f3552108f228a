//! The accountant's sources use none of the product's code.

use std::path::Path;

#[test]
fn the_accountant_uses_none_of_the_product() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let own = std::fs::read_dir(tests.join("accounting")).expect("a directory").map(|entry| entry.unwrap().path());
    // The code between the accountant and its users, and the messages that it publishes.
    let glue = ["pipeline/accounted.rs", "pipeline/images.rs", "soak/bodies.rs", "soak/scene.rs", "soak/traffic.rs"];
    let paths = own.chain(glue.map(|path| tests.join(path)));
    let product = ["image_pipeline", "::"].concat();
    for path in paths.filter(|path| path.extension().is_some_and(|extension| extension == "rs")) {
        let source = std::fs::read_to_string(&path).expect("a source file");
        assert!(!source.contains(&product), "{} uses {product}", path.display());
    }
}
