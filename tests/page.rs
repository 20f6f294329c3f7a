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

/// Both a name that a client may send and, if it were taken for markup, a script.
const HOSTILE: &str = "<img src=x onerror=document.title='broken'>";

/// What is slow gives the rest of its bytes at once from here on.
static FAST: AtomicBool = AtomicBool::new(false);

fn files() -> impl Handler {
    read(async |request: Request| {
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
                if name.starts_with("slow") && !FAST.load(SeqCst) {
                    smol::Timer::after(Duration::from_millis(200)).await;
                }
            }
        }));
        let sized = source.with_origin(format!("http://mirror/netboot/{}", request.path()));
        Ok(if request.path().ends_with("-unsized") { sized } else { sized.with_size(size(&request) as u64) })
    })
}

fn serve() -> (Serving, Shown, String) {
    let status = Status::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/", status.addr());
    let serving = Serving::with(files(), |builder| {
        status.watch(builder).patience(Duration::from_millis(1500)).max_requests_per_client(30)
    });
    let shown = status.describe("http://mirror/netboot/").serve(serving.handle.clone()).unwrap();
    (serving, shown, url)
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
    let (serving, _shown, url) = serve();
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
    // One that vanishes.
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

    // As many as may ask at once, and then some.
    let greedy = machine(&serving, "127.0.1.11");
    eventually("it is told of who is not answered", || {
        (0..50).for_each(|_| greedy.send(Packet::Rrq(common::request("../x", &[]))));
        browser.text_of("#turned-away li").starts_with("127.0.1.11too many requests of this address")
    });

    let of = |machine: &str, selector: &str| browser.text_of(&format!("[data-machine='{machine}'] {selector}"));
    assert!(of("127.0.1.11", ".what small").contains(" times · ERROR 2 Access violation"), "one line for all");
    eventually("the one that vanished is told of", || {
        of("127.0.1.9", ".verdict").starts_with("timed out: 5000/vmlinuz")
    });
    assert_eq!(
        of("127.0.1.8", ".verdict"),
        "upstream failed: broken, ERROR 0 Upstream failed (http://mirror/broken: \
         connection refused)"
    );
    assert_eq!(of("127.0.1.7", ".verdict"), "fetches 20000000/slow-initrd.gz");
    let chips = "return [...document.querySelectorAll(\"[data-machine='127.0.1.7'] .chip\")].map(c => c.textContent)";
    let expected =
        ["probe", "complete", "complete", "refused", "refused", "refused", "complete", "complete", "running"];
    assert_eq!(browser.run(chips), serde_json::json!(expected), "a boot, in its order");
    // The name is shown as it is, and did nothing.
    assert!(of("127.0.1.8", ".path").contains(HOSTILE), "{}", of("127.0.1.8", ".path"));
    assert_eq!(browser.run("return document.querySelectorAll('img').length"), 0);
    assert_eq!(browser.run("return document.title"), "tuffet");

    for (name, width, dark) in [("desktop", 1280, false), ("dark", 1280, true), ("phone", 390, false)] {
        browser.resize(width, 900, dark);
        let wide = browser.run("return document.documentElement.scrollWidth").as_u64().unwrap();
        assert!(wide <= width.into(), "{name}: {wide} pixels");
        if let Some(directory) = std::env::var_os("TUFFET_TEST_SCREENSHOTS") {
            thread::sleep(Duration::from_millis(1200));
            browser.screenshot(&PathBuf::from(directory).join(format!("{name}.png")));
        }
    }
    FAST.store(true, SeqCst);
    for thread in busy {
        thread.join().unwrap();
    }
    eventually("they are over", || browser.text_of("#running-count").is_empty());
    eventually("and complete", || of("127.0.1.7", ".verdict") == "has got 20000000/slow-initrd.gz");
    let complaints = browser.console();
    assert!(complaints.is_empty(), "{complaints:?}");
}
