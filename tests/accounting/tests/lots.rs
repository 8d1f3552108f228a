//! Random faults occur with the given shares, and identically for the same seed.

use accounting::store_faults::{Fault, Faults};

const REQUESTS: u64 = 10_000;

fn count(faults: &Faults, fault: Fault, line: &str) -> u64 {
    (0..REQUESTS).filter(|number| faults.draw(*number, line) == fault).count() as u64
}

#[test]
fn each_fault_has_its_share_of_the_requests() {
    let line = "PUT /b/tile.png HTTP/1.1";
    let mixed = Faults::mixed(7, &[(0.1, Fault::SLOW_DOWN), (0.02, Fault::Hang)]);
    assert!((900..1100).contains(&count(&mixed, Fault::SLOW_DOWN, line)));
    assert!((150..250).contains(&count(&mixed, Fault::Hang, line)));
    assert!((8600..9000).contains(&count(&mixed, Fault::None, line)));
    let lots = |seed| {
        let mixed = Faults::mixed(seed, &[(0.5, Fault::DENIED)]);
        (0..REQUESTS).map(|number| mixed.draw(number, line)).collect::<Vec<_>>()
    };
    assert!(lots(7) == lots(7) && lots(7) != lots(8));
}

#[test]
fn a_limit_of_bytes_lets_smaller_bodies_pass() {
    let proxy = Faults::from(Fault::Answer(413, "")).for_longer_than(1000);
    let draw = |length: usize| proxy.draw(0, &format!("PUT /b/tile.png HTTP/1.1\r\ncontent-length: {length}\r\n\r\n"));
    assert_eq!((draw(1001), draw(1000)), (Fault::Answer(413, ""), Fault::None));
}
