//! What tells the accountant what must become of a message uses nothing of the product. The accountant itself can't:
//! its crate does not depend on the product's.

use support::repository;

#[test]
fn expectations_use_nothing_of_the_product() {
    let tests = repository().join("tests");
    let product = ["image_pipeline", "::"].concat();
    for path in ["integration/accounted.rs", "soak/bodies.rs", "soak/scene.rs", "soak/traffic.rs"] {
        let source = std::fs::read_to_string(tests.join(path)).expect("a source file");
        assert!(!source.contains(&product), "{path} uses {product}");
    }
    for manifest in ["accounting/Cargo.toml", "support/Cargo.toml"] {
        let source = std::fs::read_to_string(tests.join(manifest)).expect("a manifest");
        assert!(!source.contains("image-pipeline") && !source.contains("servers"), "{manifest} depends on the product");
    }
}
