//! People sign up with a user name and an e-mail address of their own, rename themselves, and
//! leave; of a thousand who want one name at the same moment exactly one gets it, and of who has
//! left nothing is left. The pattern is uniqueness as a decision: it reads whatever was ever said
//! about the name and the address, and is decided again if something is said in the meantime; a
//! secret is made safe, and personal data sealed, before it can become an event. Leave it where a
//! name only has to be unique within one aggregate: there the aggregate's own fold knows.

mod account;
mod profile;
#[cfg(test)]
mod tests;
mod uniqueness;

use std::error::Error;

use account::{Account, AccountEvent, AccountRefusal, Close};
use leftfold::personal::{Erasure, Keys, Opened};
use leftfold::prelude::*;
use profile::{Password, Profile};
use uniqueness::{Rename, SignUp};

// ANCHOR: forget
/// Closes the account, which gives its name and address back, and forgets whose it was.
async fn leave(keys: &Keys, account: &str) -> Result<Erasure, Box<dyn Error>> {
    keys.store().aggregate::<Account>().execute(account, Close).await?;
    Ok(keys.forget(account).await?)
}
// ANCHOR_END: forget

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let place = examples::place()?;
    let store = leftfold::open(place.path()).await?;
    // A directory of their own: a backup of the log must not bring keys back.
    let keys = leftfold::open_keys(&store, format!("{}-keys", place.path())).await?;

    let sign_up = async |account, name, email, password: &'static str| {
        let password = tokio::task::spawn_blocking(|| Password(password.into()).hash()).await??;
        let sign_up = SignUp::new(&keys, account, name, email, password).await?;
        tell(&format!("{name} <{email}> signs up"), store.decide(&sign_up).await)
    };
    let rename = async |account: &str, to| {
        let rename = Rename::new(&keys, account, to).await?;
        tell(&format!("{account} wants to be {to}"), store.decide(&rename).await)
    };

    sign_up("1", "Ada", "ada@example.org", "correct horse").await?;
    sign_up("2", "ada", "lovelace@example.org", "battery staple").await?;
    sign_up("2", "Grace", "ADA@example.org", "battery staple").await?;
    rename("1", "countess").await?;
    sign_up("2", "ada", "lovelace@example.org", "battery staple").await?;
    rename("1", "ada").await?;

    let grace = profile(&store, "2").await?;
    let receipt = leave(&keys, "2").await?;
    println!("2 leaves, and has a receipt: {receipt}");
    keys.verify(&receipt).await?;
    println!("2 was called {:?}", keys.open(&grace.name).await?);
    rename("1", "ada").await?;

    let ada = profile(&store, "1").await?;
    println!("1 is called {:?}", keys.open(&ada.name).await?);
    if let Opened::Known(password) = keys.open(&ada.password).await? {
        println!("her password fits: {}", password.fits(&Password("correct horse".into())));
        println!("another one fits: {}", password.fits(&Password("battery staple".into())));
    }
    store.close().await?;
    Ok(())
}

async fn profile(store: &Store, account: &str) -> Result<Profile, Box<dyn Error>> {
    let loaded = store.aggregate::<Account>().load(account).await?;
    Ok(loaded.state.profile.ok_or(AccountRefusal::NoAccount)?)
}

type Done = Result<Executed<AccountEvent>, ExecuteError<AccountRefusal>>;

/// Prints how it went. A refusal belongs to the story, anything else ends it.
fn tell(what: &str, done: Done) -> Result<(), Box<dyn Error>> {
    match done {
        Ok(_) => println!("{what}: done"),
        Err(ExecuteError::Refused(no)) => println!("{what}: {no}"),
        Err(other) => return Err(other.into()),
    }
    Ok(())
}
