//! What this node asks of its peers: the library's own calls (`client`), forwarded wishes (`calls`) and snapshots
//! (`transfer`). Wire types are converted here and go no further.

pub(crate) mod calls;
pub(crate) mod client;
pub(crate) mod transfer;
