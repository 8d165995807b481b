//! The page about a repository: complete in itself, harmless whatever files are called, and seen by a real browser.

use crate::util::bench::Bench;
use crate::util::needs::has_tools;
use crate::util::tree::write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

fn with_hostile_names() -> Bench {
    let bench = Bench::with_volumes(&[], &[]);
    bench.run(&["add-volume", "disk", "--name", "<img src=x>"]).with_code(0);
    for round in 0..3_u8 {
        write(&bench.src(), &format!("<script>alert({round})<&script>\"'/file{round}"), &[round; 5000]);
        bench.backup();
    }
    bench
}

#[test]
fn a_page_needs_nothing_else_and_no_name_becomes_part_of_it() {
    let bench = with_hostile_names();
    fs::write(bench.path("page.html"), "what was there before").unwrap();
    bench.run(&["report", "page.html"]).with_code(0);
    let page = fs::read_to_string(bench.path("page.html")).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>\n"));
    for word in ["<script", "<img", "http:", "https:", "url(", "@import", "src=x>", "javascript"] {
        assert!(!page.contains(word), "{word} in {page}");
    }
    assert!(page.contains("&lt;script&gt;alert(2)&lt;&amp;script&gt;") && page.contains("&lt;img src=x&gt;"), "{page}");
    assert!(page.contains("<svg") && page.matches("<svg").count() == page.matches("<desc>").count());
    assert_eq!(fs::metadata(bench.path("page.html")).unwrap().permissions().mode() & 0o777, 0o600);
    let report = bench.json(&["report"], 0);
    assert_eq!(report["grown"][0]["dirs"][0]["path"], "<script>alert(2)<&script>\"'");
    assert_eq!((&report["status"]["state"], report["stats"]["runs"].as_array().unwrap().len()), (&"OK".into(), 3));
}

#[test]
fn a_browser_shows_the_page_on_a_desk_and_on_a_phone() {
    if !has_tools(&["chromium"]) {
        return;
    }
    let bench = with_hostile_names();
    bench.run(&["report", "page.html"]).with_code(0);
    for (name, size) in [("desk.png", "1280,900"), ("phone.png", "390,844")] {
        let picture = bench.path(name);
        let mut browser = Command::new("chromium");
        browser.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]);
        browser.arg(format!("--user-data-dir={}", bench.path("profile").display()));
        browser.arg(format!("--window-size={size}")).arg(format!("--screenshot={}", picture.display()));
        let output = browser.arg(format!("file://{}", bench.path("page.html").display())).output().unwrap();
        let bytes = fs::read(&picture).unwrap_or_default();
        assert!(bytes.starts_with(b"\x89PNG"), "{output:?}");
        // Width and height stand in the first chunk; a page that shows nothing compresses to almost nothing.
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!(format!("{},{}", number(16), number(20)), size);
        assert!(bytes.len() > 20_000, "{name}: {} bytes", bytes.len());
    }
}
