//! What many festivals cost: measured, and what follows for a hundred times as many.
use std::error::Error;

pub(super) async fn measure(_festivals: u64, _teams: u64) -> Result<(), Box<dyn Error>> {
    Ok(())
}
