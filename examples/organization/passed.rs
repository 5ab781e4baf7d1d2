//! (d) The effective value passed in with the command. Right where being a moment late does no
//! harm, and the child shall decide fast and alone, on one stream: anyone who asks looks at a read
//! model first, and says what it saw.

use leftfold::prelude::*;
use leftfold::runtime::projection::Memory;

use crate::domain::{Employee, EmployeeCommand, EmployeeEvent, Refusal};
use crate::effective::Directory;

// ANCHOR: passed
pub(crate) async fn clock_in(
    store: &Store,
    directory: &Memory<Directory>,
    employee: &str,
    company: &str,
) -> Result<Executed<EmployeeEvent>, ExecuteError<Refusal>> {
    let company = format!("company-{company}");
    let parent_enabled =
        directory.read(|directory| directory.row(&company).enabled_effective).await;
    store
        .aggregate::<Employee>()
        .execute(employee, EmployeeCommand::ClockIn { parent_enabled })
        .await
}
// ANCHOR_END: passed
