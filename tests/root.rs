//! Which directory is served, and where its links may lead: the directory that is at the path of the root when a
//! request comes.
#![cfg(all(feature = "directory", unix))]

#[path = "common/again.rs"]
#[macro_use]
mod again;
#[path = "common/asked.rs"]
mod asked;

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use again::within;
use asked::{put, request, untouched};
use smol::{
    future::block_on,
    stream::{self, StreamExt},
};
use tempfile::TempDir;
use tuffet::{ErrorCode, Handler, Refusal, Source, handlers::Directory};

fn get(directory: &Directory, name: &str) -> Result<String, Refusal> {
    let request = request(name)?;
    let bytes = block_on(async { directory.read(&request).await?.collect(1 << 24).await })?;
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

fn write(path: impl AsRef<Path>, text: &str) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A place with `root/f` in it.
fn place() -> (TempDir, PathBuf) {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("root");
    write(root.join("f"), "one");
    (temp, root)
}

#[test]
fn a_root_that_is_made_anew_is_served() {
    let (_temp, root) = place();
    let directory = Directory::new(&root).unwrap().uploads(true);
    for n in 0..3 {
        assert_eq!(get(&directory, "f").unwrap(), if n == 0 { "one".into() } else { format!("{n}") });
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(get(&directory, "f"), Err(Refusal::not_found()));
        assert_eq!(put(&directory, "g", "x"), Err(Refusal::not_found()));
        assert!(directory.look().is_err());
        write(root.join("f"), &format!("{}", n + 1));
    }
    directory.look().unwrap();
    put(&directory, "g", "upload").unwrap();
    assert_eq!(fs::read_to_string(root.join("g")).unwrap(), "upload");
}

#[test]
fn a_root_that_is_renamed_or_whose_parent_is_gives_way_to_the_new_one() {
    let temp = tempfile::tempdir().unwrap();
    let (parent, root) = (temp.path().join("parent"), temp.path().join("parent/root"));
    write(root.join("f"), "one");
    let directory = Directory::new(&root).unwrap();
    assert_eq!(get(&directory, "f").unwrap(), "one");
    fs::rename(&root, parent.join("old")).unwrap();
    write(root.join("f"), "two");
    assert_eq!(get(&directory, "f").unwrap(), "two");
    fs::rename(&parent, temp.path().join("old")).unwrap();
    write(root.join("f"), "three");
    assert_eq!(get(&directory, "f").unwrap(), "three");
}

#[test]
fn a_link_to_the_root_may_be_moved_and_transfers_go_on_in_the_old_one() {
    let temp = tempfile::tempdir().unwrap();
    let link = temp.path().join("current");
    let big = |letter: &str| letter.repeat(1 << 20);
    for version in ["a", "b"] {
        write(temp.path().join(version).join("f"), &big(version));
    }
    symlink("a", &link).unwrap();
    let directory = Directory::new(&link).unwrap();
    let request = request("f").unwrap();
    block_on(async {
        let mut running = directory.read(&request).await.unwrap();
        let mut received = running.next().await.unwrap().unwrap().to_vec();
        symlink("b", temp.path().join("new")).unwrap();
        fs::rename(temp.path().join("new"), &link).unwrap();
        let new = directory.read(&request).await.unwrap().collect(2 << 20).await.unwrap();
        assert!(new == big("b").as_bytes());
        received.extend(running.collect(2 << 20).await.unwrap());
        assert!(received == big("a").as_bytes());
    });
}

#[test]
fn links_inside_are_followed_however_they_are_written() {
    let (temp, root) = place();
    write(root.join("images/v2/kernel"), "K");
    write(temp.path().join("outside/secret"), "S");
    write(temp.path().join("root-x/secret"), "S");
    let links = [
        ("absolute", root.join("images/v2/kernel")),
        ("directory", root.join("images/v2")),
        ("dots", root.join("images/../../root/images/v2/kernel")),
        ("out-and-in", "../root/images/v2/kernel".into()),
        ("chain", "chain-2".into()),
        ("chain-2", root.join("directory/../v2/kernel")),
        ("itself", root.clone()),
        ("images/up", "../absolute".into()),
    ];
    for (name, target) in &links {
        symlink(target, root.join(name)).unwrap();
    }
    let directory = Directory::new(&root).unwrap();
    for name in ["absolute", "directory/kernel", "dots", "out-and-in", "chain", "images/up", "itself/absolute"] {
        assert_eq!(get(&directory, name).as_deref(), Ok("K"), "{name}");
    }
    // And where the root itself is reached by a link.
    symlink(&root, temp.path().join("link")).unwrap();
    symlink(temp.path().join("link/images/v2/kernel"), root.join("by-link")).unwrap();
    for root in [&root, &temp.path().join("link")] {
        let directory = Directory::new(root).unwrap();
        assert_eq!(get(&directory, "by-link").as_deref(), Ok("K"));
        assert_eq!(get(&directory, "absolute").as_deref(), Ok("K"));
    }

    for (name, target) in [
        ("out", temp.path().join("outside/secret")),
        ("out-directory", temp.path().join("outside")),
        ("beside", temp.path().join("root-x/secret")),
        ("hosts", "/etc/hosts".into()),
        ("up", "..".into()),
        ("out-chain", root.join("out")),
        ("out-dots", root.join("../outside/secret")),
    ] {
        symlink(target, root.join(name)).unwrap();
    }
    for name in ["out", "out-directory/secret", "beside", "hosts", "up/outside/secret", "out-chain", "out-dots"] {
        let refusal = get(&directory, name).unwrap_err();
        assert_eq!(refusal, Refusal::denied(), "{name}");
        assert!(refusal.detail().unwrap().contains("a link leads to /"), "{refusal}");
    }
    // Links that lead to nothing, inside and outside, and nowhere.
    symlink(root.join("missing"), root.join("dangling")).unwrap();
    symlink(temp.path().join("missing"), root.join("dangling-out")).unwrap();
    symlink(root.join("loop"), root.join("loop")).unwrap();
    assert_eq!(get(&directory, "dangling"), Err(Refusal::not_found()));
    assert_eq!(get(&directory, "dangling-out"), Err(Refusal::denied()));
    symlink(root.join("images/v2/kernel/"), root.join("no-directory")).unwrap();
    for name in ["loop", "no-directory"] {
        assert_eq!(get(&directory, name), Err(Refusal::not_found()), "{name}, as by a relative link");
    }

    let also = directory.clone().also([temp.path().join("outside")]);
    for name in ["out", "out-directory/secret", "out-chain", "out-dots", "up/outside/secret"] {
        assert_eq!(get(&also, name).as_deref(), Ok("S"), "{name}");
    }
    for name in ["beside", "hosts"] {
        assert_eq!(get(&also, name), Err(Refusal::denied()), "{name}");
    }
    // The directories of `also` are for reading.
    let uploads = also.uploads(true).overwrite(true).mkdir(true);
    for name in ["out-directory/new", "out-directory/a/b", "up/outside/new", "out"] {
        assert_eq!(put(&uploads, name, untouched()), Err(Refusal::denied()), "{name}");
    }
    put(&uploads, "directory/new", "inside").unwrap();
    put(&uploads, "directory/a/b/new", "inside").unwrap();
    assert_eq!(fs::read_to_string(root.join("images/v2/a/b/new")).unwrap(), "inside");
    assert_eq!(fs::read_dir(temp.path().join("outside")).unwrap().count(), 1);
}

#[test]
fn a_name_may_begin_with_the_path_of_the_root() {
    let (temp, root) = place();
    write(root.join("boot/pxelinux.0"), "P");
    write(root.join("boot/UPPER"), "U");
    symlink(&root, temp.path().join("link")).unwrap();
    let absolute = |name: &str| root.join(name).display().to_string();
    for served in [&root, &temp.path().join("link")] {
        let directory = Directory::new(served).unwrap().uploads(true);
        assert_eq!(get(&directory, &served.join("boot/pxelinux.0").display().to_string()).as_deref(), Ok("P"));
        assert_eq!(get(&directory, &absolute("boot/pxelinux.0")).as_deref(), Ok("P"));
        assert_eq!(get(&directory, &absolute("boot/pxelinux.0").replace('/', "\\")).as_deref(), Ok("P"));
    }
    let directory = Directory::new(&root).unwrap().uploads(true).overwrite(true);
    for name in [absolute("../../etc/hostname"), absolute("nothing"), absolute("")] {
        assert_eq!(get(&directory, &name), Err(Refusal::not_found()), "{name}");
    }
    let any_case = directory.clone().ignore_case(true);
    assert_eq!(get(&any_case, &absolute("boot/upper")).as_deref(), Ok("U"));
    put(&directory, &absolute("boot/new"), "N").unwrap();
    assert_eq!(fs::read_to_string(root.join("boot/new")).unwrap(), "N");
    let named = directory.clone().upload_names(["boot/*.cfg"]).unwrap();
    put(&named, &absolute("boot/a.cfg"), "N").unwrap();
    // A file of the very name comes first.
    write(root.join(absolute("boot/pxelinux.0").trim_start_matches('/')), "within");
    assert_eq!(get(&directory, &absolute("boot/pxelinux.0")).as_deref(), Ok("within"));
    put(&directory, &absolute("boot/pxelinux.0"), "also within").unwrap();
    assert_eq!(fs::read_to_string(root.join("boot/pxelinux.0")).unwrap(), "P");
}

#[test]
fn an_index_of_names_is_one_of_the_directory_as_it_is() {
    let (_temp, root) = place();
    write(root.join("Deep/Er/File"), "one");
    let directory = Directory::new(&root).unwrap().ignore_case(true);
    assert_eq!(get(&directory, "deep/er/file").as_deref(), Ok("one"));
    for n in 0..20 {
        let name = format!("Deep/Er/New{n}");
        assert_eq!(get(&directory, &name.to_lowercase()), Err(Refusal::not_found()));
        write(root.join(&name), "new");
        assert_eq!(get(&directory, &name.to_lowercase()).as_deref(), Ok("new"), "{n}");
        fs::remove_file(root.join(&name)).unwrap();
        assert_eq!(get(&directory, &name.to_lowercase()), Err(Refusal::not_found()), "{n}");
    }
    symlink(root.join("Deep"), root.join("Link")).unwrap();
    for name in ["link/er/file", "LINK/Er/FILE"] {
        assert_eq!(get(&directory, name).as_deref(), Ok("one"), "{name}");
    }
    fs::rename(root.join("Deep"), root.join("DEEP")).unwrap();
    assert_eq!(get(&directory, "deep/ER/file").as_deref(), Ok("one"));
    fs::remove_dir_all(&root).unwrap();
    write(root.join("deeP/er/filE"), "two");
    assert_eq!(get(&directory, "deep/er/file").as_deref(), Ok("two"));
}

#[cfg(target_os = "linux")]
#[test]
fn files_of_proc_are_read_to_their_end() {
    let proc = Directory::new("/proc/sys/kernel").unwrap();
    assert_eq!(get(&proc, "ostype").as_deref(), Ok("Linux\n"));
    let request = request("ostype").unwrap();
    assert_eq!(block_on(proc.read(&request)).unwrap().size(), Some(6), "of what is small the size is found out");
    let sys = Directory::new("/sys/class/net/lo").unwrap();
    assert_eq!(get(&sys, "mtu").unwrap(), fs::read_to_string("/sys/class/net/lo/mtu").unwrap());
    // Several reads' worth.
    let all = Directory::new("/proc").unwrap();
    let symbols = get(&all, "kallsyms").unwrap();
    assert!(symbols.len() > 200_000 && symbols == fs::read_to_string("/proc/kallsyms").unwrap());
    // Ordinary files of those sizes.
    let (_temp, root) = place();
    write(root.join("empty"), "");
    write(root.join("page"), &"x".repeat(4096));
    let directory = Directory::new(&root).unwrap();
    assert_eq!(get(&directory, "empty").as_deref(), Ok(""));
    assert_eq!(get(&directory, "page").unwrap().len(), 4096);
    let memory = tempfile::tempdir_in("/dev/shm").unwrap();
    write(memory.path().join("page"), &"x".repeat(4096));
    assert_eq!(get(&Directory::new(memory.path()).unwrap(), "page").unwrap().len(), 4096);
}

/// `config` of a PCI device has a size of 256 or 4096, and gives 64 bytes to a user other than root.
#[cfg(target_os = "linux")]
#[test]
#[ignore = "needs root and setpriv"]
fn files_of_sys_are_read_to_their_end() {
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    again!(within, &nobody);
    let devices = fs::read_dir("/sys/bus/pci/devices").into_iter().flatten().flatten();
    for device in devices {
        let device = device.path().canonicalize().unwrap();
        let read = Directory::new(&device).unwrap();
        let bytes = block_on(async { read.read(&request("config")?).await?.collect(1 << 20).await });
        assert_eq!(bytes.unwrap(), fs::read(device.join("config")).unwrap(), "{}", device.display());
    }
}

#[test]
#[ignore = "needs root and unshare"]
fn a_file_system_mounted_over_the_root_is_served() {
    again!(within, &["unshare", "--mount"]);
    let (temp, root) = place();
    write(temp.path().join("other/f"), "mounted");
    let directory = Directory::new(&root).unwrap();
    assert_eq!(get(&directory, "f").as_deref(), Ok("one"));
    let run = |args: &[&str]| assert!(Command::new(args[0]).args(&args[1..]).status().unwrap().success(), "{args:?}");
    let (root, other) = (root.to_str().unwrap(), temp.path().join("other").display().to_string());
    run(&["mount", "--bind", &other, root]);
    assert_eq!(get(&directory, "f").as_deref(), Ok("mounted"));
    run(&["mount", "-t", "tmpfs", "none", root]);
    assert_eq!(get(&directory, "f"), Err(Refusal::not_found()));
    write(Path::new(root).join("f"), "in memory");
    assert_eq!(get(&directory, "f").as_deref(), Ok("in memory"));
    // The server has it open.
    run(&["umount", "--lazy", root]);
    run(&["umount", "--lazy", root]);
    assert_eq!(get(&directory, "f").as_deref(), Ok("one"));
}

/// No other process could write to the directory either.
#[test]
#[ignore = "needs root and unshare"]
fn a_read_only_file_system_is_not_out_of_reach() {
    again!(within, &["unshare", "--mount"]);
    let (_temp, root) = place();
    let directory = Directory::new(&root).unwrap().uploads(true).on_out_of_reach(|path| panic!("{}", path.display()));
    let mount = |options: &str| {
        let mut mount = Command::new("mount");
        assert!(mount.args(["-t", "tmpfs", "-o", options, "none"]).arg(&root).status().unwrap().success(), "{options}");
    };
    mount("rw");
    write(root.join("f"), "one");
    put(&directory, "g", "x").unwrap();
    mount("remount,ro");
    assert_eq!(put(&directory, "h", "x"), Err(Refusal::denied()));
    assert_eq!(get(&directory, "f").as_deref(), Ok("one"));
    mount("ro");
    assert_eq!(put(&directory, "h", "x"), Err(Refusal::denied()));
    assert_eq!(get(&directory, "f"), Err(Refusal::not_found()));
}

/// The links were made where the files are, and the root is a second mount of them.
#[test]
#[ignore = "needs root and unshare"]
fn a_link_may_lead_to_the_other_name_of_the_root() {
    again!(within, &["unshare", "--mount"]);
    let (temp, root) = place();
    let data = temp.path().join("data");
    write(data.join("images/v2/kernel"), "kernel");
    write(temp.path().join("data-x/secret"), "secret");
    symlink(data.join("images/v2/kernel"), data.join("kernel")).unwrap();
    symlink(data.join("images"), data.join("current")).unwrap();
    symlink(temp.path().join("data-x/secret"), data.join("secret")).unwrap();
    symlink(data.parent().unwrap(), data.join("above")).unwrap();
    let mount = [data.to_str().unwrap(), root.to_str().unwrap()];
    assert!(Command::new("mount").arg("--bind").args(mount).status().unwrap().success());
    let directory = Directory::new(&root).unwrap().uploads(true).overwrite(true);
    for name in ["kernel", "current/v2/kernel", "above/data/kernel"] {
        assert_eq!(get(&directory, name).as_deref(), Ok("kernel"), "{name}");
    }
    for name in ["secret", "above/data-x/secret"] {
        assert_eq!(get(&directory, name), Err(Refusal::denied()), "{name}");
    }
    put(&directory, "kernel", "new").unwrap();
    assert_eq!(fs::read_to_string(data.join("images/v2/kernel")).unwrap(), "new");
}

#[test]
#[ignore = "needs root and setpriv"]
fn the_log_names_the_user_who_may_not_read() {
    const TREE: &str = "TUFFET_TEST_TREE";
    let modes = [
        ("", 0o755),
        ("root", 0o755),
        ("root/open", 0o755),
        ("root/own", 0o755),
        ("root/closed", 0o750),
        ("root/secret", 0o600),
    ];
    let Some(tree) = env::var_os(TREE) else {
        let temp = tempfile::tempdir().unwrap();
        for name in ["root/closed/sub/f", "root/secret", "root/open/f", "root/own/f"] {
            write(temp.path().join(name), "x");
        }
        for (name, mode) in modes {
            fs::set_permissions(temp.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        chown(temp.path().join("root/own"), Some(65534), Some(65534)).unwrap();
        // The user may have no right to the directory of the build.
        let test = temp.path().join("test");
        assert!(Command::new("cp").arg(env::current_exe().unwrap()).arg(&test).status().unwrap().success());
        fs::set_permissions(&test, fs::Permissions::from_mode(0o755)).unwrap();
        let mut run = Command::new("setpriv");
        run.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(test).env(TREE, temp.path());
        run.args(["--include-ignored", "--exact", "the_log_names_the_user_who_may_not_read"]);
        assert!(run.status().unwrap().success());
        return;
    };
    let root = PathBuf::from(tree).join("root");
    let directory = Directory::new(&root).unwrap().uploads(true).mkdir(true).overwrite(true);
    let detail = |refusal: Refusal| {
        assert_eq!(refusal, Refusal::denied());
        refusal.detail().unwrap().to_owned()
    };
    let closed = root.join("closed").display().to_string();
    for name in ["closed/sub/f", "closed/f"] {
        let expected = format!("user 65534 may not enter {closed}: mode 0750, owner 0:0");
        assert_eq!(detail(get(&directory, name).unwrap_err()), expected);
        assert_eq!(detail(put(&directory, name, "x").unwrap_err()), expected);
    }
    let named = directory.clone().user("alice");
    let expected = format!("user alice may not read {}: mode 0600, owner 0:0", root.join("secret").display());
    assert_eq!(detail(get(&named, "secret").unwrap_err()), expected);
    let expected = format!("user alice may not write to {}: mode 0755, owner 0:0", root.join("open").display());
    assert_eq!(detail(put(&named, "open/new", "x").unwrap_err()), expected);
    assert_eq!(detail(put(&named, "open/a/b/new", "x").unwrap_err()), expected);
    let expected = format!("user alice may not write to {}: mode 0755, owner 0:0", root.join("").display());
    assert_eq!(detail(put(&named, "new", "x").unwrap_err()), expected);
    // The right may go while the upload runs.
    let own = root.join("own");
    let place = own.clone();
    let last = stream::iter([Ok("x".into())]).inspect(move |_| {
        fs::set_permissions(&place, fs::Permissions::from_mode(0o555)).unwrap();
    });
    let expected = format!("user alice may not write to {}: mode 0555, owner 65534:65534", own.display());
    assert_eq!(detail(put(&named, "own/new", Source::stream(last)).unwrap_err()), expected);
}

#[test]
fn without_a_free_descriptor_the_request_stays_unanswered() {
    again!(again::after, &[], "ulimit -n 40");
    let (_temp, root) = place();
    write(root.join("g"), "two");
    let directory = Directory::new(&root).unwrap().uploads(true);
    let mut taken = Vec::new();
    while let Ok(file) = fs::File::open("/dev/null") {
        taken.push(file);
    }
    for refusal in [get(&directory, "g").unwrap_err(), put(&directory, "new", "x").unwrap_err()] {
        assert!(refusal.is_busy() && refusal.packet().is_none(), "{refusal}");
        assert_ne!(refusal, Refusal::silent());
    }
    drop(taken);
    assert_eq!(get(&directory, "g").as_deref(), Ok("two"));
    assert_eq!(get(&directory, "none").unwrap_err().code(), ErrorCode::FILE_NOT_FOUND);
}
