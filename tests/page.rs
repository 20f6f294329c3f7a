//! The live page, in a real browser, while transfers run.
#![cfg(feature = "status")]

mod browser;
mod common;

use std::{
    net::UdpSocket,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use browser::Browser;
use common::{Peer, Serving, eventually, file, size};
use tuffet::{
    Gen, Handler, Refusal, Request, Source,
    packet::Packet,
    read,
    status::{Serving as Shown, Status},
};

/// A name that a client may send. As markup it would be a script.
const HOSTILE: &str = "<img src=x onerror=document.title='broken'>";

/// Once this is set, a slow source gives the rest of its bytes at once.
type Fast = Arc<AtomicBool>;

fn files(fast: Fast) -> impl Handler {
    read(async move |request: Request| {
        let fast = fast.clone();
        let name = request.path().split('/').next_back().unwrap_or("").to_owned();
        match name.as_str() {
            "secret" => return Err(Refusal::denied().because("not for this machine")),
            "broken" => return Err(Refusal::upstream().because("http://mirror/broken: connection refused")),
            _ if size(&request) == 0 => return Err(Refusal::not_found()),
            _ => {}
        }
        let all = file(size(&request));
        let source = Source::from(Gen::new(async move |co| {
            for chunk in all.chunks(1 << 16) {
                co.yield_(chunk.to_vec()).await;
                if name.starts_with("slow") && !fast.load(SeqCst) {
                    smol::Timer::after(Duration::from_millis(200)).await;
                }
            }
        }));
        let sized = source.with_origin(format!("http://mirror/netboot/{}", request.path()));
        Ok(if request.path().ends_with("-unsized") { sized } else { sized.with_size(size(&request) as u64) })
    })
}

fn serve(patience: u64) -> (Serving, Shown, String, Fast) {
    let fast = Fast::default();
    let status = Status::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/", status.addr());
    let serving = Serving::with(files(fast.clone()), |builder| {
        builder.watch(&status).patience(Duration::from_secs(patience)).max_requests_per_client(30)
    });
    let status = status.describe("http://mirror/netboot/").listening(&[serving.addr()]);
    let shown = status.serve(serving.handle.clone()).unwrap();
    (serving, shown, url, fast)
}

/// A machine that fetches a file, block after block.
fn fetch(peer: &mut Peer, name: &str, windowsize: u16) {
    let window = windowsize.to_string();
    peer.rrq(name, &[("blksize", "1400"), ("windowsize", &window), ("tsize", "0")]);
    let mut last = 0;
    loop {
        match peer.receive() {
            Packet::Oack(_) => peer.ack(0),
            Packet::Data { block, payload } if block == last + 1 => {
                last = block;
                if payload.len() < 1400 || block % windowsize == 0 {
                    peer.ack(block);
                }
                if payload.len() < 1400 {
                    return;
                }
            }
            // On a busy machine the server may have been too impatient.
            Packet::Data { block, .. } if block == last => peer.ack(block),
            Packet::Data { .. } => {}
            _ => return,
        }
    }
}

fn machine(serving: &Serving, address: &str) -> Peer {
    let mut peer = Peer::new(serving.addr());
    peer.socket = UdpSocket::bind((address, 0)).unwrap();
    peer
}

fn refused(peer: &mut Peer, name: &str) {
    peer.rrq(name, &[]);
    assert!(matches!(peer.receive(), Packet::Error { .. }));
}

/// As pxelinux does it: the size first, then itself, then its configuration by ever shorter names, then the rest.
fn boot(serving: &Serving, address: &str) -> Peer {
    let mut peer = machine(serving, address);
    peer.rrq("42430/pxelinux.0", &[("tsize", "0")]).receive();
    peer.error(0);
    fetch(&mut peer, "42430/pxelinux.0", 1);
    fetch(&mut peer, "116624/ldlinux.c32", 1);
    for name in ["pxelinux.cfg/44454c4c-1000", "pxelinux.cfg/01-52-54-00-12-34-56", "pxelinux.cfg/C0A80107"] {
        refused(&mut peer, name);
    }
    fetch(&mut peer, "900/pxelinux.cfg/default", 1);
    fetch(&mut peer, "3900000/debian-installer/amd64/linux", 8);
    peer
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn the_page_shows_what_runs_and_what_became_of_it() {
    let (serving, _shown, url, fast) = serve(10);
    let serving = Arc::new(serving);
    let browser = Browser::new();
    browser.resize(1280, 900, false);
    browser.open(&url);
    eventually("it is live", || browser.text_of("#state") == "live");
    assert!(browser.text_of("#running-none").contains("No transfer"));
    assert_eq!(browser.text_of("#served"), "http://mirror/netboot/");

    drop(boot(&serving, "127.0.1.7"));
    let mut lost = machine(&serving, "127.0.1.8");
    refused(&mut lost, HOSTILE);
    refused(&mut lost, "secret");
    refused(&mut lost, "broken");
    // A client that vanishes.
    let mut gone = machine(&serving, "127.0.1.9");
    gone.rrq("5000/vmlinuz", &[]).receive();
    let busy: Vec<_> = [("127.0.1.7", "20000000/slow-initrd.gz"), ("127.0.1.10", "20000000/slow-unsized")]
        .into_iter()
        .map(|(address, name)| {
            let serving = serving.clone();
            thread::spawn(move || fetch(&mut machine(&serving, address), name, 8))
        })
        .collect();

    let percent = || browser.text_of("#running li:not(.unknown) .bar b").trim_end_matches(" %").parse().unwrap_or(0);
    eventually("two rows appear", || browser.run("return document.querySelectorAll('#running li').length") == 2);
    eventually("the bar shows", || percent() > 0);
    let before: u32 = percent();
    eventually("the bar moves", || percent() > before);
    let width =
        || browser.run("return parseFloat(document.querySelector('#running li:not(.unknown) .fill').style.width)");
    assert!(width().as_f64().unwrap() > 0.0);
    assert!(browser.text_of("#running .client").starts_with("127.0.1."));

    // More clients than may ask at once.
    let greedy = machine(&serving, "127.0.1.11");
    eventually("it is told of who is not answered", || {
        (0..50).for_each(|_| greedy.send(Packet::Rrq(common::request("../x", &[]))));
        browser.text_of("#unanswered-clients li").starts_with("127.0.1.11too many requests from this address")
    });

    let of = |machine: &str, selector: &str| browser.text_of(&format!("[data-machine='{machine}'] {selector}"));
    browser.run("document.querySelector(\"[data-machine='127.0.1.11']\").open = true");
    eventually("one line for all", || of("127.0.1.11", ".what small").ends_with(" times"));
    eventually("the one that vanished is told of", || of("127.0.1.9", ".verdict") == "5000/vmlinuz: timed out");
    assert_eq!(of("127.0.1.8", ".verdict"), "broken: upstream failed");
    let why = browser.text_of("[data-group*='upstream_failed'] .why");
    assert_eq!(why, "ERROR 0 Upstream failed (http://mirror/broken: connection refused), last for broken");
    for address in ["127.0.1.7", "127.0.1.8"] {
        browser.run(&format!("document.querySelector(\"[data-machine='{address}']\").open = true"));
    }
    eventually("they are drawn", || !of("127.0.1.8", ".path").is_empty() && !of("127.0.1.7", ".path").is_empty());
    assert_eq!(of("127.0.1.7", ".verdict"), "fetches 20000000/slow-initrd.gz");
    let chips = "return [...document.querySelectorAll(\"[data-machine='127.0.1.7'] .chip\")].map(c => c.textContent)";
    let mut chips: Vec<String> = serde_json::from_value(browser.run(chips)).unwrap();
    assert!(chips.pop().unwrap().ends_with(" %"), "what runs shows how far it is");
    let not = "not found";
    let expected = ["asked for the size", "complete", "complete", not, not, not, "complete", "complete"];
    assert_eq!(chips, expected, "a boot, in its order");
    // The bar is as long as its number says.
    let lane = "return parseFloat(document.querySelector(\"[data-machine='127.0.1.7'] .lane i.busy\").style.width)";
    assert!((0.1..99.0).contains(&browser.run(lane).as_f64().unwrap()));
    // The name is shown as text, and its script did not run.
    assert!(of("127.0.1.8", ".path").contains(HOSTILE), "{}", of("127.0.1.8", ".path"));
    assert_eq!(browser.run("return document.querySelectorAll('img').length"), 0);
    assert_eq!(browser.run("return document.title"), "tuffet");

    for (name, width, dark) in [("desktop", 1280, false), ("dark", 1280, true), ("phone", 390, false)] {
        browser.resize(width, 900, dark);
        let wide = browser.run("return document.documentElement.scrollWidth").as_u64().unwrap();
        assert!(wide <= width.into(), "{name}: {wide} pixels");
        screenshot(&browser, name);
    }
    fast.store(true, SeqCst);
    for thread in busy {
        thread.join().unwrap();
    }
    eventually("they are over", || browser.text_of("#running-count").is_empty());
    eventually("and complete", || of("127.0.1.7", ".verdict") == "has fetched 20000000/slow-initrd.gz");
    let complaints = browser.console();
    assert!(complaints.is_empty(), "{complaints:?}");
}

/// The machines of a room: most request a configuration that does not exist, some request files of a mirror that is
/// down.
fn a_bad_night(serving: &Serving) {
    for n in 1..=40 {
        let mut peer = machine(serving, &format!("127.0.2.{n}"));
        fetch(&mut peer, "42430/pxelinux.0", 1);
        match n {
            1..=20 => refused(&mut peer, "pxelinux.cfg/default"),
            21..=28 => refused(&mut peer, &format!("grub/grub.cfg-01-52-54-00-12-34-{n:02x}")),
            29..=36 => refused(&mut peer, "broken"),
            37..=39 => refused(&mut peer, "secret"),
            // It asks again, and then its port is closed.
            _ => {
                let options = [("blksize", "1400")];
                peer.rrq("9000/vmlinuz", &options).send(Packet::Rrq(common::request("9000/vmlinuz", &options)));
            }
        }
    }
    // Two transfers end in the same way for different causes, so each has its own text and hint.
    for (n, code) in [(41, 3), (42, 8)] {
        let mut peer = machine(serving, &format!("127.0.2.{n}"));
        peer.rrq("9000/kernel", &[("blksize", "1400")]).receive();
        let message = if code == 8 { "no options, please" } else { "disk full" };
        peer.send(Packet::Error { code: tuffet::ErrorCode(code), message: message.into() });
    }
    for n in 1..=6 {
        drop(boot(serving, &format!("127.0.3.{n}")));
    }
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn the_page_shows_trouble_first() {
    let (serving, _shown, url, fast) = serve(10);
    let serving = Arc::new(serving);
    let browser = Browser::new();
    browser.resize(1440, 900, false);
    a_bad_night(&serving);
    let busy: Vec<_> = (1..=3)
        .map(|n| {
            let serving = serving.clone();
            let name =
                if n == 3 { "8000000/slow-unsized".to_owned() } else { format!("{}/slow-initrd", n * 8_000_000) };
            thread::spawn(move || fetch(&mut machine(&serving, &format!("127.0.4.{n}")), &name, 8))
        })
        .collect();
    let silent = machine(&serving, "127.0.5.1");
    browser.open(&url);
    eventually("somebody is not answered", || {
        (0..50).for_each(|_| silent.send(Packet::Rrq(common::request("x", &[]))));
        browser.text_of("#unanswered-clients li").starts_with("127.0.5.1")
    });
    eventually("all trouble is there", || browser.text_of("#trouble-count") == "43 machines");

    let texts = |selector: &str| -> Vec<String> {
        let script = format!("return [...document.querySelectorAll({selector:?})].map(e => e.textContent)");
        serde_json::from_value(browser.run(&script)).unwrap()
    };
    let groups =
        texts("#troubles > .group > summary > .name").into_iter().zip(texts("#troubles .group > summary .verdict"));
    let groups: Vec<_> = groups.map(|(count, what)| format!("{count}: {what}")).collect();
    for group in [
        "20 machines: pxelinux.cfg/default: not found",
        "8 machines: grub/grub.cfg-01-‹MAC›: not found",
        "8 machines: broken: upstream failed",
        "3 machines: secret: not allowed",
        "127.0.2.40: 9000/vmlinuz: timed out: the client's port is closed",
        "127.0.2.41: 9000/kernel: aborted by the client: disk full",
        "127.0.2.42: 9000/kernel: aborted by the client: no options, please",
    ] {
        assert!(groups.iter().any(|found| found == group), "{group} is not in {groups:#?}");
    }
    assert!(groups[0].starts_with("20 machines"), "the most first");
    assert!(groups[1].ends_with("upstream failed"), "and of as many the worst");
    // A hint stands beside the failure.
    let hint = texts(".group .hint").into_iter().find(|hint| !hint.is_empty());
    assert!(hint.as_ref().is_some_and(|hint| hint.contains("`options = []`")), "{hint:?}");
    assert!(browser.text_of("#listening").ends_with(&serving.addr().to_string()));
    assert_eq!(browser.text_of("#clock").len(), "2026-11-25 03:00:00".len());
    eventually("the last hour has a scale", || browser.text_of("#scale-top").ends_with("iB/s"));
    assert!(texts(".tile .tip").iter().all(|tip| !tip.is_empty()));

    for (name, width, dark) in [("1440", 1440, false), ("1440-dark", 1440, true), ("390", 390, false)] {
        browser.resize(width, 900, dark);
        let of = |script: &str| browser.run(&format!("return {script}")).as_f64().unwrap();
        assert!(of("document.documentElement.scrollWidth") <= width.into(), "{name}");
        assert!(of("document.documentElement.scrollHeight") < if width < 600 { 3200.0 } else { 1800.0 }, "{name}");
        assert_eq!(of("document.querySelectorAll('details[open]').length"), 0.0, "closed until opened");
        let top = |id: &str| of(&format!("document.getElementById('{id}').getBoundingClientRect().top"));
        assert!(top("trouble") < top("run") && top("run") < top("rest"), "{name}");
        screenshot(&browser, name);
        search_and_filter(&browser);
    }
    fast.store(true, SeqCst);
    for thread in busy {
        thread.join().unwrap();
    }
    let complaints = browser.console();
    assert!(complaints.is_empty(), "{complaints:?}");
}

#[test]
#[ignore = "needs chromium and chromedriver"]
fn a_crowd_that_fetches_hides_no_trouble() {
    let (serving, _shown, url, _) = serve(300);
    let browser = Browser::new();
    refused(&mut machine(&serving, "127.0.8.1"), "secret");
    let fetch = |address: String| {
        let mut peer = machine(&serving, &address);
        peer.rrq("8000000/slow-initrd", &[("tsize", "0")]).receive();
        // Transfers that have received nothing end soon.
        peer.ack(0);
        peer.receive();
        peer.ack(1);
        peer
    };
    let _crowd: Vec<_> = (0..260).map(|n| fetch(format!("127.0.{}.{}", 6 + n / 200, 1 + n % 200))).collect();
    browser.open(&url);
    eventually("the crowd is there", || browser.text_of("#running-count") == "260, the oldest 256 listed");
    assert_eq!(browser.text_of("#trouble-count"), "1 machine");
    assert_eq!(browser.text_of("[data-machine='127.0.8.1'] .verdict"), "secret: not allowed");
}

fn search_and_filter(browser: &Browser) {
    let type_in = |text: &str| {
        let script = "const it = document.getElementById('search'); it.value = TEXT;
                      it.dispatchEvent(new Event('input'))";
        browser.run(&script.replace("TEXT", &format!("{text:?}")));
    };
    let shown = || browser.run("return document.querySelectorAll('main [data-machine]').length").as_u64().unwrap();
    let press = |filter: &str| {
        browser.run(&format!("document.querySelector('[data-filter={filter}]').click()"));
    };
    let is_there = |id: &str| browser.run(&format!("return !document.getElementById('{id}').hidden")) == true;
    let all = shown();
    type_in("127.0.2.7");
    assert_eq!(shown(), 1);
    let is_open = "return document.querySelector('.group').open";
    assert_eq!(browser.run(is_open), true, "what is looked for is shown");
    type_in("GRUB.cfg");
    assert_eq!(shown(), 8);
    type_in("");
    assert_eq!((shown(), browser.run(is_open) == true), (all, false));
    press("trouble");
    assert!(is_there("trouble") && !is_there("run") && !is_there("rest"));
    press("running");
    assert!(!is_there("trouble") && is_there("run"));
    press("failed");
    assert!((9..=all).contains(&shown()));
    browser.run("document.querySelector('#filtered button').click()");
    assert_eq!(shown(), all);
    // By the keyboard alone.
    browser.run("document.querySelector('.group > summary').focus(); document.activeElement.click()");
    assert_eq!(browser.run(is_open), true);
    let first = "document.querySelector('.group [data-machine] > summary')";
    browser.run(&format!("{first}.click()"));
    eventually("its boot is there", || !browser.text_of(".group [data-machine] .what .path").is_empty());
    screenshot(browser, if browser.run("return innerWidth < 600") == true { "opened-390" } else { "opened-1440" });
    browser.run(&format!("{first}.click(); document.querySelector('.group > summary').click()"));
}

fn screenshot(browser: &Browser, name: &str) {
    if let Some(directory) = std::env::var_os("TUFFET_TEST_SCREENSHOTS") {
        thread::sleep(Duration::from_millis(1200));
        browser.screenshot(&PathBuf::from(directory).join(format!("{name}.png")));
    }
}
