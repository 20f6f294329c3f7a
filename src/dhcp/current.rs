//! The proxy that answers now.

use std::sync::Arc;

use super::{Menu, Proxy};
use crate::{server::ServerHandle, sync::RwLock};

/// The current [`Proxy`]. A reload may replace its rules, and the server looks at the sources again now and then.
///
/// ```
/// use tuffet::dhcp::{CurrentProxy, Rule};
///
/// let live = CurrentProxy::default();
/// let (of_a_reload, of_the_server) = (live.clone(), live);
/// of_a_reload.change(|proxy| proxy.rules(vec![Rule::new("all", "grubx64.efi")]));
/// assert!(!of_the_server.proxy().is_empty());
/// ```
#[derive(Clone, Debug, Default)]
pub struct CurrentProxy(Arc<RwLock<Proxy>>);

impl CurrentProxy {
    /// A copy of the current proxy.
    ///
    /// ```
    /// assert!(tuffet::dhcp::CurrentProxy::default().proxy().is_empty());
    /// ```
    pub fn proxy(&self) -> Proxy {
        self.0.read().clone()
    }

    /// Changes the proxy for all later packets.
    ///
    /// ```
    /// use tuffet::dhcp::CurrentProxy;
    ///
    /// let live = CurrentProxy::default();
    /// let before = live.proxy();
    /// live.change(|proxy| proxy.tftp(6969));
    /// assert_ne!(live.proxy(), before);
    /// ```
    pub fn change(&self, change: impl FnOnce(Proxy) -> Proxy) {
        let mut proxy = self.0.write();
        *proxy = change(std::mem::take(&mut *proxy));
    }

    /// Searches the sources of this server for boot files.
    pub(super) async fn look(&self, handle: &ServerHandle) {
        let menu = Menu::find(&*handle.terms().handler).await;
        self.change(|proxy| {
            match (proxy.failure(), menu.failure()) {
                (None, Some(failure)) if !proxy.known().is_empty() => {
                    log::warn!("dhcp: cannot look for boot files, and announces those found before: {failure}");
                }
                (Some(_), None) => log::info!("dhcp: can look for boot files again"),
                _ => {}
            }
            let menu = menu.or_known(proxy.known());
            proxy.menu(menu)
        });
    }
}
