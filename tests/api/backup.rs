use raidtape::engine::add_volume::{AddVolumeOptions, add_volume};
use raidtape::engine::backup::{BackupOptions, backup};
use raidtape::engine::init::{InitOptions, init};
use raidtape::engine::observer::Silent;

#[test]
fn smoke() {
    let home = tempfile::tempdir().unwrap();
    let src = home.path().join("src");
    std::fs::create_dir_all(src.join("a/b")).unwrap();
    std::fs::write(src.join("a/one"), vec![7; 3_000_000]).unwrap();
    std::fs::write(src.join("a/b/two"), b"hello").unwrap();
    let mut big = Vec::new();
    let mut x = 1_u64;
    while big.len() < 20 << 20 {
        x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        big.extend_from_slice(&(x >> 11).to_le_bytes());
    }
    std::fs::write(src.join("big"), &big).unwrap();
    let (mut repository, _) = init(&home.path().join("c.cat"), &InitOptions::default()).unwrap();
    add_volume(&mut repository, &AddVolumeOptions { dir: home.path().join("v1"), ..Default::default() }).unwrap();
    for single_threaded in [false, true, false] {
        let options = BackupOptions { root: src.clone(), single_threaded, ..Default::default() };
        let report = backup(&mut repository, &options, &Silent).unwrap();
        assert!(report.problems.is_empty());
    }
}
