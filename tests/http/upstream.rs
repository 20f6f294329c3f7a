//! An HTTP server that does what a test says, down to the byte.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use socket2::{Domain, Socket, Type};

pub struct Upstream {
    url: String,
    connections: Arc<AtomicUsize>,
}

impl Upstream {
    /// Calls `script` with the head of each request and its connection, for as long as that is open. The threads end
    /// with the test's process.
    pub fn new(script: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> Self {
        Self::serving("http", move |mut stream| {
            while let Some(head) = read_head(&mut stream) {
                script(&head, &mut stream);
            }
        })
    }

    /// Answers each request with this, and closes the connection after an answer whose end is not marked otherwise.
    pub fn answering(answer: &'static str) -> Self {
        let marked = answer.contains("Content-Length") || answer.contains("chunked");
        Self::new(move |_, stream| {
            stream.write_all(answer.as_bytes()).unwrap();
            if !marked {
                close(stream);
            }
        })
    }

    /// The same over TLS, as 127.0.0.1, by the authority of `ca.pem` (both end in 2126).
    pub fn secure(answer: &'static str) -> Self {
        Self::secured_by(include_bytes!("server.pem"), answer)
    }

    /// The same with this certificate and its key.
    pub fn secured_by(pem: &'static [u8], answer: &'static str) -> Self {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_slice(pem).unwrap()],
                PrivateKeyDer::from_pem_slice(pem).unwrap(),
            );
        let config = Arc::new(config.unwrap());
        Self::serving("https", move |stream| {
            let mut stream = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream);
            while read_head(&mut stream).is_some() {
                stream.write_all(answer.as_bytes()).unwrap();
                stream.flush().unwrap();
            }
        })
    }

    /// Calls `script` with each connection.
    pub fn by_connection(script: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        Self::serving("http", script)
    }

    fn serving(scheme: &'static str, serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("{scheme}://{}/", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let (serve, counter) = (Arc::new(serve), connections.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                counter.fetch_add(1, SeqCst);
                let (serve, stream) = (serve.clone(), stream.unwrap());
                // With a small buffer, the bytes that this side could write are about those that the other side took.
                socket2::SockRef::from(&stream).set_send_buffer_size(64 << 10).unwrap();
                stream.set_nodelay(true).unwrap();
                thread::spawn(move || serve(stream));
            }
        });
        Self { url, connections }
    }

    pub fn url(&self) -> String {
        self.url.clone()
    }

    pub fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

/// Returns when the other side has closed the connection.
pub fn until_closed(stream: &mut TcpStream) {
    while !matches!(stream.read(&mut [0; 100]), Ok(0) | Err(_)) {}
}

/// Closes the connection, unless the other side has done so.
pub fn close(stream: &TcpStream) {
    let _ = stream.shutdown(Shutdown::Both);
}

/// The URL of a port that is closed as long as the socket lives, and that no other program gets meanwhile.
pub fn closed_port() -> (Socket, String) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let url = format!("http://{}/", socket.local_addr().unwrap().as_socket().unwrap());
    (socket, url)
}

/// Ends the connection with a RST.
pub fn reset(stream: &TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
    // Nothing more is read, so the thread ends and drops the socket.
    let _ = stream.shutdown(Shutdown::Read);
}

/// The head of the next request, or none where the other side has ended the connection.
pub fn read_head(stream: &mut impl Read) -> Option<String> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    Some(String::from_utf8(head).unwrap())
}
