//! The packets of a client, and its view of an answer.
#![allow(dead_code, reason = "each test crate uses its part")]

use std::net::Ipv4Addr;

use dhcproto::{
    Decodable,
    v4::{DhcpOption, Message, MessageType, Opcode, OptionCode},
};

pub const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
pub const XID: u32 = 0x1234_5678;

/// Message types (RFC 2132 section 9.6).
pub const DISCOVER: u8 = 1;
pub const REQUEST: u8 = 3;
pub const INFORM: u8 = 8;

/// A request, built byte by byte. Another library reads the answers, so that no mistake hides on both sides.
#[derive(Clone, Debug)]
pub struct Question {
    pub header: [u8; 236],
    pub options: Vec<u8>,
}

impl Question {
    pub fn new(kind: u8) -> Self {
        let mut header = [0; 236];
        header[..4].copy_from_slice(&[1, 1, 6, 0]);
        header[4..8].copy_from_slice(&XID.to_be_bytes());
        // Broadcast.
        header[10] = 0x80;
        header[28..34].copy_from_slice(&MAC);
        Self { header, options: Vec::new() }.option(53, &[kind])
    }

    /// As firmware asks by PXE.
    pub fn pxe(kind: u8, arch: u16) -> Self {
        let class = format!("PXEClient:Arch:{arch:05}:UNDI:003016");
        let id = [&[0], &(0..16).collect::<Vec<u8>>()[..]].concat();
        Self::new(kind)
            .option(60, class.as_bytes())
            .option(93, &arch.to_be_bytes())
            .option(94, &[1, 3, 16])
            .option(97, &id)
    }

    pub fn option(mut self, code: u8, value: &[u8]) -> Self {
        self.options.extend([code, value.len() as u8]);
        self.options.extend(value);
        self
    }

    pub fn ciaddr(mut self, ip: [u8; 4]) -> Self {
        self.header[12..16].copy_from_slice(&ip);
        self
    }

    pub fn giaddr(mut self, ip: [u8; 4]) -> Self {
        self.header[24..28].copy_from_slice(&ip);
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        [&self.header[..], &[99, 130, 83, 99], &self.options, &[255]].concat()
    }
}

/// An answer as a client reads it. Reading checks what holds for every answer.
#[derive(Debug)]
pub struct Read {
    pub kind: MessageType,
    pub file: String,
    pub server: Ipv4Addr,
    pub message: Message,
}

impl Read {
    #[track_caller]
    pub fn of(bytes: &[u8]) -> Self {
        let message = Message::from_bytes(bytes).expect("an answer that can be read");
        assert!((300..=1472).contains(&bytes.len()), "{} bytes", bytes.len());
        assert_eq!(message.opcode(), Opcode::BootReply);
        assert!(message.yiaddr().is_unspecified(), "it leases nothing");
        let opts = message.opts();
        for lease in [OptionCode::AddressLeaseTime, OptionCode::SubnetMask, OptionCode::Router] {
            assert!(opts.get(lease).is_none(), "it leases nothing");
        }
        assert_eq!(bytes[240], 53, "the message type comes first");
        let kind = opts.msg_type().unwrap();
        let Some(DhcpOption::ServerIdentifier(server)) = opts.get(OptionCode::ServerIdentifier) else {
            panic!("{opts:?}")
        };
        assert_eq!(message.siaddr(), *server);
        let Some(DhcpOption::BootfileName(name)) = opts.get(OptionCode::BootfileName) else { panic!("{opts:?}") };
        let (end, name) = name.split_last().unwrap();
        assert!(*end == 0 && !name.contains(&0), "one NUL at the end");
        // In the field it is the same, if it has room with its NUL.
        let field: Vec<u8> = bytes[108..236].iter().copied().take_while(|byte| *byte != 0).collect();
        assert_eq!(field, if name.len() < 128 { name } else { &[] });
        let file = String::from_utf8(name.to_vec()).unwrap();
        Self { kind, file, server: *server, message }
    }

    pub fn class(&self) -> &[u8] {
        match self.message.opts().get(OptionCode::ClassIdentifier) {
            Some(DhcpOption::ClassIdentifier(class)) => class,
            other => panic!("{other:?}"),
        }
    }

    pub fn vendor(&self) -> Option<&[u8]> {
        match self.message.opts().get(OptionCode::VendorExtensions) {
            Some(DhcpOption::VendorExtensions(vendor)) => Some(vendor),
            _ => None,
        }
    }
}
