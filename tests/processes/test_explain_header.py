"""``x-warmpath-explain`` of a whole router: workers know the admin token without having it."""

import json

from tests.processes.router_process import configuration, emulator, serving

TOKEN = "the-admin-token-of-this-test"
READERS = "the-token-of-those-who-only-read"


async def test_the_admin_token_opens_the_decision(tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "readers").write_text(READERS)
    admin = f"""admin:
  address: "127.0.0.1:0"
  token: "file:{tmp_path}/token"
  tokens: [{{name: reader, role: read, token: "file:{tmp_path}/readers"}}]"""
    text = configuration("ENGINE").replace('admin: {address: "127.0.0.1:0"}', admin)
    async with (
        emulator("a") as a,
        serving(tmp_path, text.replace("ENGINE", a.address)) as router,
    ):
        url = f"{router.api}/v1/chat/completions"
        body = {"model": "emulated", "messages": [{"role": "user", "content": "hello"}]}
        for given, wanted in ((TOKEN, True), (READERS, True), ("another", False)):
            headers = {"x-warmpath-explain": given}
            async with router.session.post(url, json=body, headers=headers) as answer:
                assert answer.status == 200
                assert ("x-warmpath-explain" in answer.headers) is wanted
                if wanted:
                    decision = json.loads(answer.headers["x-warmpath-explain"])
                    assert decision["picks"][0][1] == f"demo/{a.address}"
