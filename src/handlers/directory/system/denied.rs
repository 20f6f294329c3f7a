//! The cause of a "permission denied": which right the user lacks, and on which file.

use std::path::Path;

use rustix::{
    fs::{Access, AtFlags, accessat, statat},
    io::Errno,
};

use super::{
    super::place::{Place, or_itself},
    Wish,
};

/// The first cause on the way to the file that the modes explain. If there is none, something other than a mode denies
/// access.
pub fn why_denied(place: &Place, path: &Path, wish: Wish, user: &str) -> String {
    let mut ways: Vec<_> = path.ancestors().skip(1).collect();
    ways.reverse();
    for way in &ways {
        if !may(place, way, Access::EXEC_OK) {
            return because(place, way, "enter", user);
        }
    }
    let (what, access, verb) = match wish {
        Wish::Read => (path, Access::READ_OK, "read"),
        Wish::Write => (deepest(place, &ways), Access::WRITE_OK, "write to"),
    };
    match may(place, what, access) {
        false => because(place, what, verb, user),
        true => format!("something other than its mode keeps user {user} from {}", place.text(path)),
    }
}

/// The deepest of these nested directories that exists.
fn deepest<'a>(place: &Place, ways: &[&'a Path]) -> &'a Path {
    let there = ways.iter().rev().find(|way| place.dir.is_dir(or_itself(way)));
    there.copied().unwrap_or(Path::new(""))
}

fn may(place: &Place, path: &Path, access: Access) -> bool {
    !matches!(accessat(&place.dir, or_itself(path), access, AtFlags::empty()), Err(Errno::ACCESS))
}

fn because(place: &Place, path: &Path, verb: &str, user: &str) -> String {
    let shown = place.text(path);
    let whose = statat(&place.dir, or_itself(path), AtFlags::empty())
        .map(|found| format!(": mode {:04o}, owner {}:{}", found.st_mode & 0o7777, found.st_uid, found.st_gid));
    format!("user {user} may not {verb} {shown}{}", whose.unwrap_or_default())
}
