"""The recipe: what it may say, what each mistake says back, and where its secrets go (nowhere)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from leafmill.errors import RecipeError
from leafmill.recipe import Model, Price, Recipe, Timeouts

SECRET = "sk-9f3-never-to-be-seen"
MODELS = 'models:\n  generator: {base_url: "http://here/v1", model: qwen-x, api_key: "${KEY}"}\n'


def read(folder: Path, text: str, environ: dict[str, str] | None = None, **options: Any) -> Recipe:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return Recipe.read(path, {"KEY": SECRET} if environ is None else environ, **options)


def fault(folder: Path, text: str, environ: dict[str, str] | None = None, **options: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        read(folder, text, environ, **options)
    assert caught.value.exit_code == 2
    return str(caught.value).replace(f"{folder}/", "")


def test_only_models_must_be_given(tmp_path: Path) -> None:
    recipe = read(tmp_path, MODELS)
    assert (recipe.target, recipe.taxonomies, recipe.languages, recipe.candidates_per_leaf) == (10, ["programming"], ["en", "zh"], 100)
    assert fault(tmp_path, "name: x\n") == "recipe.yaml:1: models: Field required"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("targt: 3", "recipe.yaml:3: unknown key 'targt': did you mean 'target'?"),
        ("flow: {evolve_round: 1}", "recipe.yaml:3: unknown key 'evolve_round': did you mean 'evolve_rounds'? known: "),
        ("limits:\n  minute: 1", "recipe.yaml:4: unknown key 'minute': did you mean 'minutes'?"),
        ("roles: {critic: {modle: x}}", "recipe.yaml:3: unknown key 'modle': did you mean 'model'? known: max_tokens"),
        ("scorer: {modle: x}", "recipe.yaml:3: unknown key 'modle': did you mean 'model'?"),
        ("embedder: {base_url: x, model: y, dims: 3}", "recipe.yaml:3: unknown key 'dims': did you mean 'dimension'?"),
    ],
)  # fmt: skip
def test_an_unknown_key_is_named_with_its_line_and_the_nearest_one(tmp_path: Path, text: str, expected: str) -> None:
    assert fault(tmp_path, f"{MODELS}{text}\n").startswith(expected)


def test_an_unknown_key_of_a_model_is_named_and_its_value_is_not(tmp_path: Path) -> None:
    said = fault(tmp_path, f'models:\n  generator:\n    base_url: "http://x/v1"\n    model: q\n    apikey: {SECRET}\n')
    assert said.startswith("recipe.yaml:5: unknown key 'apikey': did you mean 'api_key'?")
    assert SECRET not in said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('target: "5"', "recipe.yaml:3: target: Input should be a valid integer, got '5'"),
        ("target: true", "recipe.yaml:3: target: Input should be a valid integer, got True"),
        ("target: 0", "recipe.yaml:3: target: Input should be greater than or equal to 1, got 0"),
        ("name: a/b", "recipe.yaml:3: name: String should match pattern"),
        ("name: ..", "recipe.yaml:3: name: String should match pattern"),
        ("name: 5", "recipe.yaml:3: name: Input should be a valid string, got 5"),
        ("languages: [fr]", "recipe.yaml:3: languages.0: Input should be 'en' or 'zh', got 'fr'"),
        ("languages: []", "recipe.yaml:3: languages: "),
        ("leaves: []", "recipe.yaml:3: leaves: List should have at least 1 item"),
        ("taxonomies: programming", "recipe.yaml:3: taxonomies: Input should be a valid list, got 'programming'"),
        ("gates: {minhash: 3}", "recipe.yaml:3: gates.minhash: Input should be a valid dictionary, got 3"),
        ("gates: [minhash]", "recipe.yaml:3: gates: Input should be a valid dictionary, got a list of 1"),
        ("limits: {error_share: 1.5}", "recipe.yaml:3: limits.error_share: Input should be less than or equal to 1, got 1.5"),
        ("limits: {minutes: .nan}", "recipe.yaml:3: limits.minutes: Input should be greater than 0, got nan"),
        ("flow: {evolve_rounds: 9}", "recipe.yaml:3: flow.evolve_rounds: Input should be less than or equal to 8, got 9"),
        ("roles: {critic: {off: maybe}}", "recipe.yaml:3: roles.critic.off: Input should be a valid boolean, got 'maybe'"),
    ],
)
def test_a_wrong_value_is_shown_with_its_line_and_what_was_expected(tmp_path: Path, text: str, expected: str) -> None:
    assert fault(tmp_path, f"{MODELS}{text}\n").startswith(expected)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("{}", "give either `embedded`, or `base_url` and `model`, or `endpoints` and `model`"),
        ('{base_url: "http://x/v1", embedded: smollm2-135m}', "give either `embedded`, or `base_url` and `model`"),
        ('{base_url: "http://x/v1", model: q, endpoints: [{base_url: "http://y/v1"}]}', "give either `embedded`, or `base_url`"),
        ('{embedded: smollm2-135m, endpoints: [{base_url: "http://y/v1"}]}', "give either `embedded`, or `base_url` and `model`"),
        ('{base_url: "http://x/v1"}', "`base_url` and `endpoints` need `model`"),
        ('{endpoints: [{base_url: "http://x/v1"}]}', "`base_url` and `endpoints` need `model`"),
        ("{base_url: localhost, model: q}", "`base_url` must start with http:// or https://, got 'localhost'"),
        ("", "Input should be a valid dictionary or instance of Model, got None"),
        ('{base_url: "http://x/v1", model: q, temperature: 3}', "less than or equal to 2, got 3"),
        ('{base_url: "http://x/v1", model: q, structured: json}', "'auto', 'json_schema', 'json_object' or 'text', got 'json'"),
    ],
)
def test_a_model_is_an_endpoint_or_several_or_embedded_and_says_what_is_wrong(tmp_path: Path, model: str, expected: str) -> None:
    said = fault(tmp_path, f"models:\n  generator: {model}\n")
    assert said.startswith("recipe.yaml:2: models.generator")
    assert expected in said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "recipe.yaml: is empty"),
        ("- a\n- b\n", "recipe.yaml:1: a recipe is a mapping of settings, got list"),
        ("hello\n", "recipe.yaml:1: a recipe is a mapping of settings, got str"),
    ],
)
def test_what_is_no_mapping_is_no_recipe(tmp_path: Path, text: str, expected: str) -> None:
    assert fault(tmp_path, text) == expected


def test_a_role_is_switched_off_by_the_word_off_though_yaml_takes_it_for_a_boolean(tmp_path: Path) -> None:
    assert read(tmp_path, MODELS + "roles: {planner: {off: true}}\n").roles["planner"].off


def test_a_gate_may_be_left_out_left_as_it_is_or_given_settings(tmp_path: Path) -> None:
    recipe = read(tmp_path, MODELS + "gates: {semantic: false, exact: , length: true, minhash: {threshold: 0.5}}\n")
    assert recipe.gates == {"semantic": False, "exact": {}, "length": {}, "minhash": {"threshold": 0.5}}


def test_what_the_command_line_says_wins_and_has_no_line_in_the_file(tmp_path: Path) -> None:
    assert read(tmp_path, MODELS + "target: 5\n", target=2, name=None).target == 2
    assert fault(tmp_path, MODELS + "target: 5\n", target=0) == "recipe.yaml: target: Input should be greater than or equal to 1, got 0"
    assert str(read(tmp_path, MODELS + "leaves: [a]\n", leaves=["b"]).fail("no", ("leaves", 0))).endswith("recipe.yaml: no")


# -- secrets -----------------------------------------------------------------------------------------------------------


def key_of(recipe: Recipe) -> str:
    key = recipe.models["generator"].api_key
    return key.get_secret_value() if key else ""


def test_a_key_comes_from_the_environment_or_else_from_the_env_file_beside_the_recipe(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("KEY=from-file\n")
    assert key_of(read(tmp_path, MODELS, {})) == "from-file"
    assert key_of(read(tmp_path, MODELS, {"KEY": "from-environment"})) == "from-environment"


@pytest.mark.parametrize("environ", [{}, {"KEY": ""}])
def test_a_variable_that_is_not_set_is_named(tmp_path: Path, environ: dict[str, str]) -> None:
    said = fault(tmp_path, MODELS, environ)
    assert said == "recipe.yaml:2: environment variable 'KEY' is not set (export it, or put it into .env beside the recipe)"


def test_a_dry_run_needs_no_key(tmp_path: Path) -> None:
    assert key_of(read(tmp_path, MODELS, {}, dry=True)) == "not set"


def test_an_env_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"KEY=\xff\n")
    assert fault(tmp_path, MODELS).startswith(".env: not valid UTF-8")


@pytest.mark.parametrize("key", [SECRET, f"Bearer {SECRET}", "Bearer ${KEY}", f"[{SECRET}]", f"{{it: {SECRET}}}", "12345", "$KEY", '""'])
def test_a_literal_key_is_refused_and_never_echoed(tmp_path: Path, key: str) -> None:
    said = fault(tmp_path, f'models:\n  generator:\n    base_url: "http://x/v1"\n    model: q\n    api_key: {key}\n')
    assert said.startswith("recipe.yaml:5: api_key must be written as ${NAME}")
    assert SECRET not in said


@pytest.mark.parametrize(
    "text",
    [
        MODELS + 'gates: {minhash: {threshold: {api_key: "${KEY}"}}}\n',
        MODELS + 'gates: {minhash: {api_key: "${KEY}"}}\n',
        MODELS.replace("model: qwen-x", 'extra_body: {api_key: "${KEY}"}'),
        MODELS + 'api_key: "${KEY}"\n',
        MODELS.replace("model: qwen-x", 'price: {input: 1, output: 1, api_key: "${KEY}"}'),
    ],
)
def test_a_key_in_a_wrong_place_is_refused_and_its_value_never_read(tmp_path: Path, text: str) -> None:
    assert "an api_key stands under a model, one of its endpoints, or embedder" in (said := fault(tmp_path, text))
    assert SECRET not in said


@pytest.mark.parametrize("text", ["name: ${KEY}", 'leaves: ["${KEY}"]', "scorer: {model: ${KEY}}"])
def test_a_variable_anywhere_else_is_refused(tmp_path: Path, text: str) -> None:
    said = fault(tmp_path, f"{MODELS}{text}\n".replace("{model: ${KEY}}", '{model: "${KEY}"}'))
    assert said == "recipe.yaml:3: '${KEY}': variables are for secrets only (api_key); write the value itself here"


def test_no_other_fault_of_a_recipe_shows_a_key(tmp_path: Path) -> None:
    endpoint = 'embedder: {base_url: "http://x", model: y, api_key: "${KEY}", dims: 3}\n'
    for wrong in ("target: x", "models2: 1", "gates: 3"):
        assert SECRET not in fault(tmp_path, f"{MODELS}{wrong}\n")
    assert SECRET not in fault(tmp_path, 'models:\n  - {base_url: "http://x/v1", model: q, api_key: "${KEY}"}\n')
    assert SECRET not in fault(tmp_path, MODELS + endpoint) + fault(tmp_path, MODELS.replace("model: qwen-x, ", ""))


def test_the_resolved_recipe_has_every_default_and_the_name_of_a_secret_but_not_the_secret(tmp_path: Path) -> None:
    recipe = read(tmp_path, MODELS + 'embedder: {base_url: "http://x", model: y, api_key: "${KEY}"}\n')
    shown = yaml.safe_load(recipe.resolved())
    assert (shown["models"]["generator"]["api_key"], shown["embedder"]["api_key"], shown["target"]) == ("${KEY}", "${KEY}", 10)
    assert SECRET not in recipe.resolved() + repr(recipe) + str(recipe.identity())


def test_a_resolved_recipe_can_be_read_again(tmp_path: Path) -> None:
    recipe = read(tmp_path, MODELS + "gates: {semantic: false}\nname: 甲\n")
    assert read(tmp_path, recipe.resolved()).resolved() == recipe.resolved()


# -- how a model is called, and what that costs ------------------------------------------------------------------------

HERE = 'base_url: "http://x/v1", model: q'


def model_of(folder: Path, settings: str) -> Model:
    return read(folder, f"models:\n  generator: {{{settings}}}\n").models["generator"]


def test_a_timeout_is_a_number_of_seconds_for_the_whole_call_or_says_each_of_its_parts(tmp_path: Path) -> None:
    assert model_of(tmp_path, f"{HERE}, timeout: 90").timeout == Timeouts(total=90.0)
    assert model_of(tmp_path, f"{HERE}, timeout: {{connect: 2, first_byte: 30.5}}").timeout == Timeouts(connect=2, first_byte=30.5)
    assert model_of(tmp_path, HERE).timeout == Timeouts(connect=10, first_byte=None, total=180)


def test_a_role_may_have_a_timeout_of_its_own(tmp_path: Path) -> None:
    roles = read(tmp_path, MODELS + "roles: {critic: {timeout: 5}, planner: {timeout: {connect: 1}}, writer: {}}\n").roles
    assert [roles[name].timeout for name in ("critic", "planner", "writer")] == [Timeouts(total=5), Timeouts(connect=1), None]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("timeout: 0", ".timeout: Input should be greater than 0, got 0"),
        ("timeout: .inf", ".timeout: Input should be a finite number, got inf"),
        ("timeout: true", ".timeout: Input should be a valid dictionary or instance of Timeouts, got True"),
        ("timeout: {totl: 3}", "unknown key 'totl': did you mean 'total'? known: connect, first_byte, total"),
        ("timeout: {first_byte: -1}", ".timeout.first_byte: Input should be greater than 0, got -1"),
        ("price: {input: -1, output: 2}", ".price.input: Input should be greater than or equal to 0, got -1"),
        ("price: {input: 1, output: .inf}", ".price.output: Input should be a finite number, got inf"),
        ("price: {input: 1}", ".price.output: Field required"),
        ("price: {input: 1, output: 2, cache: 1}", "unknown key 'cache': did you mean 'cached'? known: cached, input, output"),
        ("price: 3", ".price: Input should be a valid dictionary or instance of Price, got 3"),
        ("patience: -1", ".patience: Input should be greater than or equal to 0, got -1"),
        ("attempts: 0", ".attempts: Input should be greater than or equal to 1, got 0"),
        ("concurrency: 0", ".concurrency: Input should be greater than or equal to 1, got 0"),
        ("rpm: 0", ".rpm: Input should be greater than or equal to 1, got 0"),
        ("tpm: 1.5", ".tpm: Input should be a valid integer, got 1.5"),
    ],
)
def test_a_wrong_setting_of_a_model_is_shown_with_its_line(tmp_path: Path, setting: str, expected: str) -> None:
    said = fault(tmp_path, f"models:\n  generator:\n    base_url: http://x/v1\n    model: q\n    {setting}\n")
    assert said.startswith("recipe.yaml:5: ")
    assert expected in said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("limits: {money: 0}", "limits.money: Input should be greater than 0, got 0"),
        ("limits: {leaf_money: .inf}", "limits.leaf_money: Input should be a finite number, got inf"),
        ("limits: {tokens: 0}", "limits.tokens: Input should be greater than or equal to 1, got 0"),
        ("limits: {leaf_tokens: 2.5}", "limits.leaf_tokens: Input should be a valid integer, got 2.5"),
        ("limits: {monney: 3}", "unknown key 'monney': did you mean 'money'?"),
        ('currency: ""', "currency: String should have at least 1 character, got ''"),
        ("roles: {critic: {timeout: -5}}", "roles.critic.timeout: Input should be greater than 0, got -5"),
    ],
)
def test_a_wrong_limit_is_shown_with_its_line(tmp_path: Path, text: str, expected: str) -> None:
    assert fault(tmp_path, f"{MODELS}{text}\n").startswith(f"recipe.yaml:3: {expected}")


def test_limits_of_money_are_in_the_currency_of_the_recipe(tmp_path: Path) -> None:
    recipe = read(tmp_path, MODELS + "currency: CNY\nlimits: {money: 20, leaf_money: 1.5, tokens: 1000, leaf_tokens: 100}\n")
    limits = recipe.limits
    assert (recipe.currency, limits.money, limits.leaf_money, limits.tokens, limits.leaf_tokens) == ("CNY", 20, 1.5, 1000, 100)
    assert read(tmp_path, MODELS).currency == "USD"


# -- several endpoints behind one alias --------------------------------------------------------------------------------

TWO = """\
models:
  generator:
    model: q
    endpoints:
      - {base_url: "http://a/v1", api_key: "${KEY}", weight: 3}
      - {base_url: "http://b/v1", model: q-b}
"""


def test_several_endpoints_serve_one_model_each_with_its_weight_key_and_name(tmp_path: Path) -> None:
    first, second = read(tmp_path, TWO).models["generator"].addresses()
    assert (first.base_url, first.weight, first.model, first.api_key and first.api_key.get_secret_value()) == (
        "http://a/v1",
        3,
        None,
        SECRET,
    )
    assert (second.base_url, second.weight, second.model, second.api_key) == ("http://b/v1", 1, "q-b", None)


def test_one_base_url_is_one_address_with_the_models_own_key(tmp_path: Path) -> None:
    (only,) = read(tmp_path, MODELS).models["generator"].addresses()
    assert (only.base_url, only.model, only.api_key and only.api_key.get_secret_value()) == ("http://here/v1", "qwen-x", SECRET)
    (served,) = Model(embedded="smollm2-135m").addresses("http://127.0.0.1:1/v1")
    assert served.base_url == "http://127.0.0.1:1/v1"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("    model: q\n", '    model: q\n    api_key: "${KEY}"\n', "2: models.generator: with `endpoints`, each of them has an `api_key`"),
        (
            "http://b/v1",
            "ftp://b",
            "6: models.generator.endpoints.1.base_url: `base_url` must start with http:// or https://, got 'ftp://b'",
        ),
        ("http://b", f"http://me:{SECRET}@b", "6: models.generator.endpoints.1.base_url: `base_url` must not hold a user or password"),
        ("weight: 3", "weight: 0", "5: models.generator.endpoints.0.weight: Input should be greater than 0, got 0"),
        ("weight: 3", "wieght: 3", "5: unknown key 'wieght': did you mean 'weight'? known: api_key, base_url, model, weight"),
        ("weight: 3", 'x: {api_key: "${KEY}"}', "5: unknown key 'x'"),
        ('"${KEY}"', SECRET, "5: api_key must be written as ${NAME}"),
        ("${KEY}", "${OTHER}", "5: environment variable 'OTHER' is not set"),
        ("model: q-b}", "model: q-b}\n      - http://c/v1", "7: models.generator.endpoints.2: Input should be a valid dictionary"),
    ],
)
def test_a_fault_in_an_endpoint_is_shown_with_its_line_and_never_the_secret(tmp_path: Path, old: str, new: str, expected: str) -> None:
    said = fault(tmp_path, TWO.replace(old, new))
    assert said.startswith(f"recipe.yaml:{expected}")
    assert SECRET not in said


def test_endpoints_that_are_no_list_are_refused(tmp_path: Path) -> None:
    said = fault(tmp_path, 'models:\n  generator: {model: q, endpoints: {base_url: "http://a"}}\n')
    assert said.startswith("recipe.yaml:2: models.generator.endpoints: `endpoints` is a list of addresses")


def test_the_resolved_recipe_has_the_names_of_the_endpoints_secrets_but_not_the_secrets(tmp_path: Path) -> None:
    recipe = read(tmp_path, TWO)
    shown = yaml.safe_load(recipe.resolved())["models"]["generator"]["endpoints"]
    assert [one["api_key"] for one in shown] == ["${KEY}", None]
    assert SECRET not in recipe.resolved() + repr(recipe)
    assert read(tmp_path, recipe.resolved()).models == recipe.models


def test_a_dry_run_needs_no_key_of_an_endpoint_and_calls_none_of_them(tmp_path: Path) -> None:
    moved = read(tmp_path, TWO.replace("model: q\n", "model: q\n    price: {input: 1, output: 2}\n"), {}, dry=True).at("http://here/v1")
    (only,) = moved.models["generator"].addresses()
    assert (only.base_url, moved.models["generator"].price) == ("http://here/v1", Price(input=1, output=2))


# -- what follows from a recipe ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "kin"),
    [
        (Model(base_url="http://x", model="Qwen/Qwen2.5-7B-Instruct"), "qwen"),
        (Model(base_url="http://x", model="meta-llama/Llama-3.1-8B"), "llama"),
        (Model(base_url="http://x", model="my-own"), "my-own"),
        (Model(base_url="http://x", model="my-own", family="DeepSeek"), "deepseek"),
        (Model(embedded="models/qwen2.5-coder-0.5b.gguf"), "qwen"),
    ],
)
def test_a_family_is_guessed_from_the_name_unless_it_is_given(model: Model, kin: str) -> None:
    assert model.kin == kin


def test_a_dry_run_has_a_name_of_its_own_and_calls_only_the_scripted_server(tmp_path: Path) -> None:
    recipe = read(tmp_path, MODELS + 'name: real\nembedder: {base_url: "http://x", model: y, api_key: "${KEY}"}\n').at("http://here")
    assert (recipe.name, recipe.same_family_judge) == ("real-scripted", True)
    assert "http://x" not in recipe.resolved()
    assert {model.base_url for model in recipe.models.values()} == {"http://here"}


def test_only_what_decides_briefs_and_scores_is_the_identity_of_a_recipe(tmp_path: Path) -> None:
    plain = read(tmp_path, MODELS).identity()
    assert read(tmp_path, MODELS + "target: 99\nin_flight: 2\ngates: {minhash: false}\n").identity() == plain
    for change in (
        "seed: 8",
        "taxonomies: [general]",
        "languages: [en]",
        "embedder: other",
        "scorer: {template: chat}",
        "gates: {ifd: false}",
    ):
        assert read(tmp_path, f"{MODELS}{change}\n").identity() != plain
