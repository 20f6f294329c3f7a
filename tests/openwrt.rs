//! The init script for OpenWrt, with its functions replaced: there is no router here.
#![cfg(all(unix, feature = "cli"))]

use std::process::Command;

const STUBS: &str = r#"
uci() { printf '%s\n' "tuffet.$s=serve" "tuffet.$s.enabled='1'" "tuffet.$s.source='/srv'" "tuffet.$s.max_upload='64M'" \
    "tuffet.$s.single_port='1'" "tuffet.$s.allow='10.0.0.0/8' '::1'"; }
config_load() { :; }
config_foreach() { for s in boot other; do "$1" "$s"; done; }
config_get_bool() { [ "$2" = boot ] && enabled=1 || enabled=0; }
config_get() { case "$3" in max_upload) value=64M ;; single_port) value=1 ;; allow) value="10.0.0.0/8 ::1" ;; esac; }
config_list_foreach() { case "$2" in source) "$3" /srv; "$3" memory: ;; listen) "$3" :6969 ;; esac; }
for f in open_instance close_instance set_param append_param add_reload_trigger; do
    eval "procd_$f() { echo $f \"\$@\"; }"
done
"#;

#[test]
fn settings_become_the_command_and_its_environment() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/openwrt/files/tuffet.init");
    let output = Command::new("sh").args(["-euc", &format!("{STUBS}. {script}; start_service")]).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected = "\
open_instance boot
set_param command /usr/bin/tuffet serve
append_param command --listen :6969
append_param command /srv
append_param command memory:
set_param env HOME=/tmp
append_param env TUFFET_MAX_UPLOAD=64M
append_param env TUFFET_SINGLE_PORT=1
append_param env TUFFET_ALLOW=10.0.0.0/8,::1
set_param stderr 1
set_param respawn
set_param term_timeout 15
close_instance
";
    assert_eq!(said, expected, "one that is enabled, and one that is not");
}
