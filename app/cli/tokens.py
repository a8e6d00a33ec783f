"""`betavae tokens`: makes, lists and revokes the tokens of the API."""

from typing import Annotated

import typer

from app.cli.output import print_table
from app.cli.stores import open_stores
from worker.stores.tokens import SCOPES, TokenStore

app = typer.Typer(help="Make, list and revoke the tokens of the API.", no_args_is_help=True)


def _tokens() -> TokenStore:
    return open_stores().tokens


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="What the token is for, such as a person or a machine.")],
    scope: Annotated[str, typer.Option(help=f"One of {', '.join(SCOPES)}; each includes those before it.")] = "train",
) -> None:
    """Make a token and print it; it is not kept and cannot be shown again.

    Once there is a token, the service asks for one.
    """
    print(_tokens().add(name, scope)[1])


@app.command("list")
def list_tokens() -> None:
    """List the tokens, without their secrets."""
    rows = [[token.id, token.name, token.scope, token.created_at[:10]] for token in _tokens().all()]
    print_table(("id", "name", "scope", "made"), rows, whole=("id",))


@app.command()
def revoke(token: Annotated[str, typer.Argument(help="Name or id of the token.")]) -> None:
    """Remove a token; requests with it are refused from now on."""
    revoked = _tokens().revoke(token)
    print(f"revoked {revoked.name} ({revoked.id})")
