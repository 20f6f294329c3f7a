//! `tuffet boot` and real machines: in a network where dnsmasq leases addresses and tells no file, they reach Debian's
//! kernel.
//!
//!     apt install qemu-system-x86 ipxe-qemu ipxe ovmf grub-efi-amd64-bin grub-common dnsmasq-base iproute2 busybox
//!         debian-installer-12-netboot-amd64 qemu-system-arm qemu-efi-aarch64 u-boot-qemu
//!         debian-installer-12-netboot-arm64 u-boot-tools
//!     cargo test --test boot_lan -- --ignored --test-threads 1
#![cfg(all(target_os = "linux", feature = "full"))]

mod common;
#[path = "common/machines.rs"]
#[macro_use]
mod machines;
mod stock;

use std::{
    env,
    ffi::OsStr,
    fs,
    io::{Read, Write},
    net::{TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use machines::on_machines;
use stock::{Process, daemon, finish, limited, without_variables};

/// The network: a switch, which is this machine too, a router, and a plug for a machine.
const LAN: &str = "
    ip netns add router
    ip link add lan type bridge; ip address add 192.0.2.1/24 brd + dev lan; ip link set lan up
    ip link add port type veth peer name r0 netns router; ip link set port master lan up
    ip -n router address add 192.0.2.254/24 brd + dev r0; ip -n router link set lo up; ip -n router link set r0 up
    ip tuntap add plug mode tap; ip link set plug master lan up";

/// It leases addresses, and knows nothing of boot files.
const DNSMASQ: &str = "dnsmasq --no-daemon --port=0 --interface=r0 --bind-interfaces --conf-file=/dev/null --user=root \
    --leasefile-ro --dhcp-range=192.0.2.100,192.0.2.150,5m";

/// A machine without a disk: its kernel has no root, and it switches itself off.
const APPEND: &str = "console=ttyS0 panic=-1";

/// Where the kernel is in Debian's tree.
const KERNEL: &str = "debian-installer/amd64/linux";
const KERNEL_ARM64: &str = "debian-installer/arm64/linux";

/// Runs this test again in a network of its own. Returns whether this is there already, with all that it needs.
fn in_lan(test: &str) -> bool {
    for program in ["qemu-system-x86_64", "dnsmasq", "unshare", "ip"] {
        let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).stdout(Stdio::null()).status();
        if !found.is_ok_and(|found| found.success()) {
            println!("skipped: {program} is not installed");
            return false;
        }
    }
    on_machines(test, LAN)
}

/// Debian's tree.
fn tree() -> PathBuf {
    tree_of("debian-installer-12-netboot-amd64", KERNEL)
}

fn tree_of(package: &str, kernel: &str) -> PathBuf {
    let output = Command::new("dpkg").args(["-L", package]).output().expect("dpkg");
    let files = String::from_utf8(output.stdout).unwrap();
    let root = files.lines().find_map(|file| file.strip_suffix(kernel).filter(|root| root.ends_with("/text/")));
    root.unwrap_or_else(|| panic!("{package} is installed")).into()
}

/// Menus without a pause, in place of Debian's.
fn menus() -> tempfile::TempDir {
    let here = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let file = here.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    };
    write("pxelinux.cfg/default", format!("default linux\nlabel linux\nkernel {KERNEL}\nappend {APPEND}\n"));
    write("debian-installer/amd64/grub/grub.cfg", format!("linux (tftp,192.0.2.1)/{KERNEL} {APPEND}\nboot\n"));
    here
}

/// The script of iPXE.
fn script(here: &Path) {
    fs::write(here.join("boot.ipxe"), format!("#!ipxe\nkernel {KERNEL} {APPEND}\nboot\n")).unwrap();
}

/// `tuffet boot`, the router, and their logs.
struct Lan {
    _tuffet: Process,
    log: PathBuf,
    _dnsmasq: Process,
    here: tempfile::TempDir,
}

impl Lan {
    /// It serves what these arguments say.
    fn new(args: &[&str]) -> Self {
        Self::beside(DNSMASQ, args)
    }

    /// The same beside another DHCP server.
    fn beside(dnsmasq: &str, args: &[&str]) -> Self {
        let here = tempfile::tempdir().unwrap();
        let dnsmasq = format!("exec ip netns exec router {dnsmasq}");
        let dnsmasq = daemon(Command::new("sh").args(["-c", &dnsmasq]).stderr(Stdio::null()));
        let log = here.path().join("log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_tuffet"));
        command.arg("boot").args(args).stdin(Stdio::null()).stdout(Stdio::null());
        without_variables(&mut command);
        let tuffet = Process::start(command.stderr(fs::File::create(&log).unwrap()));
        let lan = Self { _tuffet: tuffet, log, _dnsmasq: dnsmasq, here };
        let began = Instant::now();
        while !lan.log().contains("dhcp: machines on lan get boot files") {
            assert!(began.elapsed() < Duration::from_secs(60), "{}", lan.log());
            thread::sleep(Duration::from_millis(50));
        }
        lan
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Switches a machine on, and waits until its kernel has switched it off. Returns the log of the server.
    fn boots(&self, machine: &[&str]) -> String {
        let serial = self.here.path().join("serial");
        let mut command = limited("qemu-system-x86_64");
        command.args(COMMON).arg("-serial").arg(format!("file:{}", serial.display())).args(machine);
        let output = finish(command);
        let shown = String::from_utf8_lossy(&fs::read(serial).unwrap_or_default()).into_owned();
        let log = self.log();
        assert!(shown.contains("Linux version "), "{}\n{shown}\n{log}", stock::said(&output));
        assert!(log.contains(&format!("{KERNEL} complete")), "{log}");
        assert!(!log.contains("panicked"), "{log}");
        log
    }
}

/// A machine of QEMU's, whose serial line a person sits at.
struct Console {
    machine: Process,
    shown: Arc<Mutex<String>>,
    /// How much of it was read before.
    read: usize,
}

impl Console {
    /// Switches a machine with a processor of arm64 on.
    fn arm64<T: AsRef<OsStr>>(machine: &[T]) -> Self {
        let mut command = Command::new("qemu-system-aarch64");
        command.args(["-machine", "virt", "-cpu", "cortex-a57", "-monitor", "none", "-serial", "stdio"]);
        command.args(COMMON).args(PLAIN_NET).args(machine);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut machine = Process::start(&mut command);
        let mut stdout = machine.stdout.take().unwrap();
        let shown = Arc::<Mutex<String>>::default();
        let sink = shown.clone();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = stdout.read(&mut buffer) {
                sink.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
        });
        Self { machine, shown, read: 0 }
    }

    /// Waits until the machine shows this text after the last one that it was waited for.
    fn shows(&mut self, text: &str, lan: &Lan) {
        let began = Instant::now();
        loop {
            let shown = self.shown.lock().unwrap().clone();
            if let Some(at) = shown[self.read..].find(text) {
                self.read += at + text.len();
                return;
            }
            let has_ended = self.machine.try_wait().unwrap().is_some();
            assert!(!has_ended && began.elapsed() < PATIENCE, "no {text}: {shown}\n{}", lan.log());
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn types(&mut self, line: &str) {
        self.machine.stdin.as_mut().unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

/// The arguments of all machines.
const COMMON: [&str; 7] =
    ["-display", "none", "-no-reboot", "-m", "768", "-netdev", "tap,id=net,ifname=plug,script=no,downscript=no"];
/// How long a machine may take to show something, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(120);
const NET: [&str; 2] = ["-device", "virtio-net-pci,netdev=net"];
/// Without the ROM of iPXE, EDK2 boots by its own PXE.
const PLAIN_NET: [&str; 2] = ["-device", "virtio-net-pci,netdev=net,romfile="];
const EFI: [&str; 4] = ["-machine", "q35", "-bios", "/usr/share/ovmf/OVMF.fd"];

const EFI_ARM64: [&str; 2] = ["-bios", "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd"];

/// Debian's U-Boot, or another for the same machine.
fn u_boot() -> [String; 2] {
    let file = env::var("TUFFET_TEST_U_BOOT").unwrap_or_else(|_| "/usr/lib/u-boot/qemu_arm64/u-boot.bin".into());
    ["-bios".into(), file]
}

/// Without PXE, which EDK2 would try before HTTP boot.
fn no_pxe() -> [&'static str; 4] {
    let [ipv4, ipv6] =
        ["name=opt/org.tianocore/IPv4PXESupport,string=n", "name=opt/org.tianocore/IPv6PXESupport,string=n"];
    ["-fw_cfg", ipv4, "-fw_cfg", ipv6]
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
#[ignore = "needs root, and the packages that this file names"]
fn a_bios_with_ipxe_reaches_the_kernel_by_pxelinux() {
    again!(in_lan);
    let (menus, tree) = (menus(), tree());
    let lan = Lan::new(&[path(menus.path()), path(&tree)]);
    let log = lan.boots(&NET);
    assert!(log.contains("(BIOS, iPXE) may boot tftp://192.0.2.1/pxelinux.0"), "{log}");
}

#[test]
#[ignore = "needs root, and the packages that this file names"]
fn a_bios_with_ipxe_reaches_the_kernel_by_a_script() {
    again!(in_lan);
    let (menus, tree) = (menus(), tree());
    script(menus.path());
    let lan = Lan::new(&[path(menus.path()), path(&tree)]);
    let log = lan.boots(&NET);
    assert!(log.contains("(BIOS, iPXE) may boot http://192.0.2.1/boot.ipxe"), "{log}");
    assert!(log.lines().any(|line| line.contains(KERNEL) && line.contains(" over HTTP 200 ")), "{log}");
}

/// Debian's GRUB asks the DHCP server, unless its image names another server.
#[test]
#[ignore = "needs root, and the packages that this file names"]
fn efi_reaches_the_kernel_by_pxe_and_grub() {
    again!(in_lan);
    let (menus, tree) = (menus(), tree());
    let mut make = limited("grub-mkimage");
    make.args(["-O", "x86_64-efi", "-p", "(tftp,192.0.2.1)/debian-installer/amd64/grub", "-o"]);
    make.arg(menus.path().join("shimx64.efi")).args(["efinet", "tftp", "net", "normal", "linux", "configfile"]);
    let output = finish(make);
    assert!(output.status.success(), "{}", stock::said(&output));
    let lan = Lan::new(&[path(menus.path()), path(&tree)]);
    let log = lan.boots(&[&EFI[..], &PLAIN_NET].concat());
    assert!(log.contains("(EFI x64) may boot shimx64.efi"), "{log}");
    // It asked the one that it had chosen, too.
    assert!(log.contains("(EFI x64) is sent to shimx64.efi"), "{log}");
}

#[test]
#[ignore = "needs root, and the packages that this file names"]
fn efi_reaches_the_kernel_by_pxe_and_ipxe() {
    again!(in_lan);
    let (menus, tree) = (menus(), tree());
    script(menus.path());
    let lan = Lan::new(&[path(menus.path()), "/usr/lib/ipxe", path(&tree)]);
    let log = lan.boots(&[&EFI[..], &PLAIN_NET].concat());
    assert!(log.contains("(EFI x64) is sent to snponly.efi"), "{log}");
    assert!(log.contains("(EFI x64, iPXE) may boot"), "{log}");
}

#[test]
#[ignore = "needs root, and the packages that this file names"]
fn efi_reaches_the_kernel_by_http_boot() {
    again!(in_lan);
    let (menus, tree) = (menus(), tree());
    script(menus.path());
    let lan = Lan::new(&[path(menus.path()), "/usr/lib/ipxe", path(&tree)]);
    let log = lan.boots(&[&EFI[..], &PLAIN_NET, &no_pxe()].concat());
    assert!(log.contains("(EFI x64, HTTP boot) may boot http://192.0.2.1/snponly.efi"), "{log}");
    assert!(log.contains("(EFI x64, iPXE) may boot http://192.0.2.1/boot.ipxe"), "{log}");
}

/// shim of Debian, and its GRUB, which then asks the DHCP server.
#[test]
#[ignore = "needs root, and the packages that this file names"]
fn arm64_reaches_grub_by_pxe_and_shim() {
    again!(in_lan);
    let lan = Lan::new(&[path(&tree_of("debian-installer-12-netboot-arm64", KERNEL_ARM64))]);
    let mut console = Console::arm64(&EFI_ARM64);
    console.shows("Welcome to GRUB!", &lan);
    let log = lan.log();
    assert!(log.contains("(EFI arm64) is sent to debian-installer/arm64/bootnetaa64.efi"), "{log}");
    assert!(log.contains("debian-installer/arm64/grubaa64.efi complete"), "{log}");
}

/// The kernel is a program for EFI, too.
#[test]
#[ignore = "needs root, and the packages that this file names"]
fn arm64_reaches_the_kernel_by_http() {
    again!(in_lan);
    let here = tempfile::tempdir().unwrap();
    let kernel = tree_of("debian-installer-12-netboot-arm64", KERNEL_ARM64).join(KERNEL_ARM64);
    fs::copy(kernel, here.path().join("bootaa64.efi")).unwrap();
    let lan = Lan::new(&[path(here.path())]);
    let mut console = Console::arm64(&[&EFI_ARM64[..], &no_pxe()].concat());
    console.shows("EFI stub: Booting Linux Kernel", &lan);
    console.shows("Linux version ", &lan);
    let log = lan.log();
    assert!(log.contains("(EFI arm64, HTTP boot) may boot http://192.0.2.1/bootaa64.efi"), "{log}");
}

/// By the commands of docs/dhcp.md, because U-Boot drops the answers of ProxyDHCP.
#[test]
#[ignore = "needs root, and the packages that this file names"]
fn u_boot_reaches_the_kernel_when_it_is_told_the_server() {
    again!(in_lan);
    let (menus, tree) = menu_for_u_boot();
    let lan = Lan::new(&[path(menus.path()), path(&tree)]);
    let mut console = Console::arm64(&u_boot());
    console.shows("stop autoboot", &lan);
    console.types("");
    for line in documented("```text\n", "setenv autoload no").lines() {
        console.shows("=> ", &lan);
        console.types(line);
    }
    console.shows("Linux version ", &lan);
    let log = lan.log();
    assert!(log.contains("(U-Boot) is told the server"), "{log}");
    assert!(log.contains(&format!("{KERNEL_ARM64} complete")), "{log}");
}

/// With nothing typed, because the DHCP server names this server. It names no file: the script is U-Boot's own idea.
#[test]
#[ignore = "needs root, and the packages that this file names"]
fn u_boot_reaches_the_kernel_by_its_script() {
    again!(in_lan);
    let (menus, tree) = menu_for_u_boot();
    let mut make = limited("sh");
    make.args(["-ec", documented("```sh\n", "echo 'pxe get")]).current_dir(menus.path());
    let output = finish(make);
    assert!(output.status.success(), "{}", stock::said(&output));
    let lan = Lan::beside(&format!("{DNSMASQ} --dhcp-boot=,,192.0.2.1"), &[path(menus.path()), path(&tree)]);
    let mut console = Console::arm64(&u_boot());
    console.shows("Linux version ", &lan);
    let log = lan.log();
    assert!(log.contains("    U-Boot          boot.scr.uimg ("), "{log}");
    assert!(log.contains("(U-Boot) may boot boot.scr.uimg: found in the sources"), "{log}");
    assert!(log.contains(" read boot.scr.uimg complete "), "{log}");
    assert!(log.contains(&format!("{KERNEL_ARM64} complete")), "{log}");
}

/// The block of docs/dhcp.md that is of this kind and begins so.
fn documented(kind: &str, begin: &str) -> &'static str {
    let mut blocks = include_str!("../docs/dhcp.md").split(kind);
    let block = blocks.find(|block| block.starts_with(begin)).unwrap();
    block.split_once("```").unwrap().0
}

/// A menu for Debian's kernel, and Debian's tree.
fn menu_for_u_boot() -> (tempfile::TempDir, PathBuf) {
    let menus = tempfile::tempdir().unwrap();
    fs::create_dir(menus.path().join("pxelinux.cfg")).unwrap();
    let menu = format!("default linux\nlabel linux\nkernel {KERNEL_ARM64}\nappend console=ttyAMA0 panic=-1\n");
    fs::write(menus.path().join("pxelinux.cfg/default"), menu).unwrap();
    (menus, tree_of("debian-installer-12-netboot-arm64", KERNEL_ARM64))
}

#[test]
#[ignore = "needs root, and the packages that this file names"]
fn from_a_web_server_with_one_command() {
    again!(in_lan);
    let (menus, tree) = (menus(), tree());
    let address = "127.0.0.1:8099";
    let _daemon = daemon(Command::new("busybox").args(["httpd", "-f", "-p", address, "-h"]).arg(&tree));
    let began = Instant::now();
    while TcpStream::connect(address).is_err() {
        assert!(began.elapsed() < Duration::from_secs(20), "httpd does not listen");
        thread::sleep(Duration::from_millis(10));
    }
    let lan = Lan::new(&[path(menus.path()), &format!("http://{address}/")]);
    lan.boots(&NET);
}

#[test]
#[ignore = "needs root, unshare and iproute2"]
fn a_source_with_nothing_to_boot_is_refused_in_one_line() {
    again!(in_lan);
    let here = tempfile::tempdir().unwrap();
    fs::write(here.path().join("switch.cfg"), "hostname switch\n").unwrap();
    let boot = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tuffet"));
        command.arg("boot").args(args);
        let output = finish(command);
        let said = stock::said(&output);
        assert!(output.status.code() == Some(1) && said.lines().count() == 1, "{said}");
        said
    };
    let said = boot(&[path(here.path())]);
    assert!(said.starts_with("tuffet: there is no boot file in "), "{said}");
    // A web server that is down, at a port that nothing listens on.
    let said = boot(&["http://127.0.0.1:9/"]);
    assert!(said.starts_with("tuffet: cannot look for boot files in "), "{said}");
    // Where a DHCP server has the port, it says so in one line.
    let _taken = UdpSocket::bind("0.0.0.0:67").unwrap();
    let said = boot(&[path(here.path()), "--dhcp-boot", "=>switch.cfg", "--quiet"]);
    assert!(said.contains("a DHCP server on this machine uses it"), "{said}");
}
