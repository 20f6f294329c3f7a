//! Requests as boot firmware and boot loaders send them.

use tuffet::handlers::Directory;

use super::{
    client::{Connection, get},
    put, serve,
};

/// Of each, its first requests for a file.
const CLIENTS: &[(&str, &[&str])] = &[
    (
        "iPXE",
        &["GET /boot/grubx64.efi HTTP/1.1\r\nConnection: keep-alive\r\nUser-Agent: iPXE/1.21.1+\r\n\
             Host: 192.0.2.1:8080\r\n\r\n"],
    ),
    (
        "iPXE that reads a disk",
        &[
            "HEAD /boot/grubx64.efi HTTP/1.1\r\nUser-Agent: iPXE/1.21.1\r\nHost: 192.0.2.1\r\n\r\n",
            "GET /boot/grubx64.efi HTTP/1.1\r\nUser-Agent: iPXE/1.21.1\r\nHost: 192.0.2.1\r\n\
             Range: bytes=0-511\r\n\r\n",
        ],
    ),
    (
        "GRUB",
        &[
            "GET /boot/grubx64.efi HTTP/1.1\r\nHost: 192.0.2.1\r\nUser-Agent: GRUB 2.06-13\r\n\r\n",
            "GET /boot/grubx64.efi HTTP/1.1\r\nHost: 192.0.2.1\r\nUser-Agent: GRUB 2.06-13\r\n\
             Range: bytes=100-\r\n\r\n",
        ],
    ),
    ("U-Boot", &["GET /boot/grubx64.efi HTTP/1.0\r\n\r\n"]),
    (
        "U-Boot with lwIP",
        &["GET /boot/grubx64.efi HTTP/1.1\r\nUser-Agent: lwIP/2.2.0 (http://savannah.nongnu.org/projects/lwip)\r\n\
             Accept: */*\r\nHost: 192.0.2.1\r\nConnection: Close\r\n\r\n"],
    ),
    (
        "EDK2",
        &[
            "HEAD //boot/grubx64.efi HTTP/1.1\r\nHost: 192.0.2.1\r\nAccept: */*\r\n\
             User-Agent: UefiHttpBoot/1.0\r\n\r\n",
            "GET //boot/grubx64.efi HTTP/1.1\r\nHost: 192.0.2.1\r\nAccept: */*\r\nUser-Agent: UefiHttpBoot/1.0\r\n\r\n",
        ],
    ),
    (
        "one of the last century",
        &[
            "HEAD /boot/grubx64.efi HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
            "GET /boot/grubx64.efi HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
        ],
    ),
    (
        "busybox wget",
        &["GET /boot/grubx64.efi HTTP/1.1\r\nHost: 192.0.2.1\r\nUser-Agent: Wget\r\nConnection: close\r\n\r\n"],
    ),
];

#[test]
fn each_client_gets_its_file_over_one_connection() {
    let place = tempfile::tempdir().unwrap();
    let bytes = vec![b'M'; 4000];
    put(place.path(), "boot/grubx64.efi", &bytes);
    let server = serve(Directory::new(place.path()).unwrap());
    for (client, requests) in CLIENTS {
        let mut connection = Connection::to(&server);
        for request in *requests {
            connection.send(request);
            let answer = connection.read_answer(request.starts_with("HEAD")).unwrap_or_else(|| panic!("{client}"));
            let (status, length) = match request {
                part if part.contains("bytes=0-511") => (206, 512),
                part if part.contains("bytes=100-") => (206, 3900),
                _ => (200, 4000),
            };
            assert_eq!(answer.status, status, "{client}");
            // GRUB and U-Boot compare it as it is written, and EDK2 goes by the type.
            assert!(answer.head.contains(&format!("\r\nContent-Length: {length}\r\n")), "{client}: {}", answer.head);
            assert!(answer.head.contains("\r\nContent-Type: application/efi\r\n"), "{client}: {}", answer.head);
            assert!(request.starts_with("HEAD") || answer.body.len() == length, "{client}");
        }
    }
}

#[test]
fn no_header_is_empty() {
    let place = tempfile::tempdir().unwrap();
    put(place.path(), "file", b"");
    let server = serve(Directory::new(place.path()).unwrap());
    let mut connection = Connection::to(&server);
    for lines in [&[][..], &["Range: bytes=0-"], &["If-None-Match: *"], &["If-Match: \"x\""]] {
        for path in ["/file", "/missing"] {
            let answer = connection.get(path, lines);
            let mut headers = answer.head.lines().skip(1).filter(|line| !line.is_empty());
            assert!(
                headers.all(|line| line.split_once(": ").is_some_and(|(_, value)| !value.is_empty())),
                "{answer:?}"
            );
        }
    }
}

#[test]
fn a_connection_is_kept_unless_the_client_closes_it() {
    let place = tempfile::tempdir().unwrap();
    put(place.path(), "file", b"hello");
    let server = serve(Directory::new(place.path()).unwrap());
    let mut connection = Connection::to(&server);
    for _ in 0..20 {
        assert_eq!(connection.get("/file", &[]).text(), "hello");
        assert_eq!(connection.get("/missing", &[]).status, 404);
    }
    // Two at once.
    let two = "GET /file HTTP/1.1\r\nHost: x\r\n\r\n".repeat(2);
    connection.send(two);
    assert_eq!((connection.answer().text(), connection.answer().text()), ("hello", "hello"));
    assert_eq!(connection.get("/file", &["Connection: close"]).text(), "hello");
    assert!(connection.is_closed());
    let mut old = Connection::to(&server);
    assert_eq!(old.send("GET /file HTTP/1.0\r\n\r\n").answer().text(), "hello");
    assert!(old.is_closed());
    assert_eq!(get(&server, "/file").status, 200);
}
