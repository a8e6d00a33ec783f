"""The bodies of requests, one pydantic model each: they check what comes in and describe it in the API's schema.

Every model is closed to unknown fields. `check_body` reads JSON values, `app.api.bodies.read_form` reads forms.
"""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    GetJsonSchemaHandler,
    JsonValue,
    PlainValidator,
    RootModel,
    ValidationError,
    WithJsonSchema,
    create_model,
)
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from starlette.datastructures import UploadFile

from app.problems import invalid, validation_problem
from models.config import MAX_STEPS, Config, ConfigError
from models.info import MAX_LABEL_LENGTH, OPTIONAL_NAME, PreprocessingRequest
from training.config import all_settings
from training.metrics.names import ALL_METRICS, METRICS, check_metrics
from training.objectives.registry import readers_of
from training.presets import PRESETS
from worker.rendering.request import TraversalRequest

MAX_FIELDS = 200
MAX_LATENT = 1000.0
MAX_SEED = 2**31 - 1
MAX_MINUTES = 60 * 24 * 365
BINARY: dict[str, Any] = {"type": "string", "format": "binary"}
"""The schema of a file."""

Upload = Annotated[UploadFile, WithJsonSchema(BINARY)]
Name = Annotated[str, WithJsonSchema({"type": "string", "pattern": OPTIONAL_NAME})]
"""A name, which validate_name checks."""
_PRESET_TEXTS = {name: {"dataset": preset.dataset, "text": preset.text} for name, preset in PRESETS.items()}
Preset = Annotated[str, WithJsonSchema({"type": "string", "enum": list(PRESETS), "x-presets": _PRESET_TEXTS})]
"""The name of a preset; `x-presets` describes each in the schema, with the data set that it is meant for."""


class Body(BaseModel):
    """Base of all bodies: strict about types, and closed to unknown fields."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, arbitrary_types_allowed=True
    )


AnyBody = TypeVar("AnyBody", bound=BaseModel)


def check_body(kind: type[AnyBody], values: Mapping[str, Any]) -> AnyBody:
    """Returns a body as an instance of its model.

    Args:
        kind: The model.
        values: The fields by name, as the client sent them.

    Raises:
        Problem: A field is unknown or missing, or has a wrong value (invalid_request); it lists all of them.
    """
    if len(values) > MAX_FIELDS:  # Each wrong field is explained, which would take a second for 80 000 of them.
        raise invalid("body", f"may have at most {MAX_FIELDS} fields, not {len(values)}")
    try:
        # A group of settings checks itself when it is made, strictly.
        return kind(**values) if issubclass(kind, Config) else kind.model_validate(values)
    except ValidationError as error:
        raise validation_problem(error.errors(include_url=False), kind.model_fields) from None


def field_schema(field: FieldInfo) -> dict[str, Any]:
    """Returns the JSON schema of one setting: type, bounds, default, text and, as `unit`, its unit."""
    kind: Any = field.annotation
    holder = create_model("Setting", setting=(kind, field))
    schema: dict[str, Any] = holder.model_json_schema()["properties"]["setting"]
    schema.pop("title", None)
    if schema.get("default") is None and "anyOf" not in schema:
        schema.pop("default", None)  # The default differs by objective; the text names each.
    return schema


def _described_as(schema: Mapping[str, Any]) -> Callable[[dict[str, Any]], None]:
    """Returns a function that puts `schema` in the place of a field's own."""

    def replace(own: dict[str, Any]) -> None:
        own.clear()
        own.update(schema)

    return replace


def _without_null(schema: dict[str, Any]) -> None:
    """Describes a field that is absent where it has no value, since forms have no null."""
    schema |= next(one for one in schema.pop("anyOf") if one.get("type") != "null")
    del schema["default"]


def _without_default(schema: dict[str, Any]) -> None:
    """Removes the default of a field that, where it is absent, changes nothing."""
    del schema["default"]


class TrainingConfig(RootModel[dict[str, Any]]):
    """Settings of a training run, flat; those that are absent come from the preset, or have their defaults.

    `x-objectives` lists the objectives that read a setting; a setting without it belongs to every run. `x-default` is
    its default without a preset. It is no `default` of the schema, which clients would send in place of the preset's.
    """

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        properties = {}
        for name, field in all_settings().items():
            schema = properties[name] = field_schema(field)
            if "default" in schema:
                schema["x-default"] = schema.pop("default")
            if readers := readers_of(name):
                schema["x-objectives"] = readers
        text = str(cls.__doc__).replace("\n    ", "\n")
        schema = {"type": "object", "title": cls.__name__, "description": text.strip()}
        return {**schema, "properties": properties, "additionalProperties": False}


def _check_evaluate(value: Any) -> tuple[str, ...]:
    return check_metrics(False if value is None else value, "evaluate")


def _check_scores(value: Any) -> tuple[str, ...]:
    if isinstance(value, bool):
        raise ConfigError("metrics", f"must be a list of scores out of {', '.join(ALL_METRICS)}")
    return check_metrics(value)


_SCORES = {"type": "array", "items": {"type": "string", "enum": list(ALL_METRICS)}}
Evaluate = Annotated[
    tuple[str, ...],
    PlainValidator(_check_evaluate),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, _SCORES]}),
]
_FROM = (
    "A model whose weights the run starts with, by id or name. Its network's settings hold where the request gives "
    "none. Step and optimizer begin anew, and C begins at the model's KL: this does not resume a run (`more_steps`)."
)
_MINUTES = (
    "A budget of time for the whole run, in minutes: its length is what fits on the worker, and its schedules are laid "
    "out for that. It excludes num_steps and num_epochs. Without a budget, a length and a preset, the run has a length "
    "that suits the set and the worker (`estimate`)."
)
_MORE_STEPS = (
    "Steps by which the run of the model in `from` trains longer, with its settings and its optimizer state: C and β "
    "stay where they ended, and the learning rate runs through its schedule once more. Beside it the request may have "
    "name and evaluate."
)
_WEBHOOK = (
    "Address of a host in BETAVAE_WEBHOOK_HOSTS that gets a signed message when this has succeeded, failed or been "
    "cancelled."
)


def _given(name: str, kind: str) -> dict[str, Any]:
    """Returns the rule that a field stands in a body and is not null."""
    return {"required": [name], "properties": {name: {"type": kind, **({"minLength": 1} if kind == "string" else {})}}}


def _rules(*rules: dict[str, Any]) -> ConfigDict:
    """Returns the configuration of a body whose schema has rules between fields; the route checks them."""
    return ConfigDict(json_schema_extra={"allOf": list[JsonValue](rules)})


_NULL = {"type": "null"}
_ABSENT_BESIDE_MORE_STEPS = {"dataset": {"enum": ["", None]}, "preset": _NULL, "config": _NULL, "minutes": _NULL}
_TRAINING_RULES = (
    {"anyOf": [_given("dataset", "string"), _given("preset", "string"), _given("more_steps", "integer")]},
    {
        "if": _given("minutes", "number"),
        "then": {"properties": {"config": {"properties": {"num_steps": _NULL, "num_epochs": _NULL}}}},
    },
    {
        "if": _given("more_steps", "integer"),
        "then": {**_given("from", "string"), "allOf": [{"properties": _ABSENT_BESIDE_MORE_STEPS}]},
    },
)


class TrainJobRequest(Body):
    """A training job: a data set, and the settings of the run."""

    model_config = _rules(*_TRAINING_RULES)

    name: Name | None = Field(None, description="Name of the job and of the model; empty: the data set's.")
    dataset: str | None = Field(None, description="A data set, by id or name; empty: the preset's own.")
    preset: Preset | None = Field(None, description="Settings to start from.")
    config: TrainingConfig | None = Field(None, description="Settings that differ from the preset or the defaults.")
    minutes: float | None = Field(None, gt=0, le=MAX_MINUTES, description=_MINUTES)
    from_: str | None = Field(None, alias="from", description=_FROM)
    more_steps: int | None = Field(None, ge=1, le=MAX_STEPS, description=_MORE_STEPS)
    webhook: str | None = Field(None, description=_WEBHOOK)
    evaluate: Evaluate = Field(
        (),
        validate_default=False,
        description="Scores to compute when the training is done: true for the usual ones, or a list. They go into the "
        "job's `result` and the model's `metrics`.",
        json_schema_extra={"default": False},
    )

    @property
    def overrides(self) -> dict[str, Any]:
        """The settings that the request names."""
        return self.config.root if self.config else {}


class SweepRequest(Body):
    """A sweep: trainings that differ in a few settings, as a grid or as a list."""

    model_config = _rules(
        {"oneOf": [_given("grid", "object"), _given("members", "array")]},
        {"anyOf": [_given("dataset", "string"), _given("preset", "string")]},
        _TRAINING_RULES[1],
    )

    name: Name | None = Field(None, description="Name of the sweep; empty: the data set's.")
    dataset: str | None = Field(None, description="A data set, by id or name; empty: the preset's own.")
    preset: Preset | None = Field(None, description="Settings that every member starts from.")
    config: TrainingConfig | None = Field(None, description="Settings that all members share.")
    grid: dict[str, list[Any]] | None = Field(
        None, description="Values of some settings, which are combined in every way: at most 200 members."
    )
    members: list[dict[str, Any]] | None = Field(
        None, description="In the place of a grid: the settings of each member.", min_length=1
    )
    minutes: float | None = Field(None, gt=0, le=MAX_MINUTES, description="A budget of time for each member.")
    from_: str | None = Field(None, alias="from", description=_FROM)
    evaluate: Evaluate = Field(
        (),
        validate_default=False,
        description="Scores to compute of each model: true for all, or a list. They need a set with factors.",
        json_schema_extra={"default": False},
    )
    max_running: int | None = Field(
        None,
        ge=1,
        le=1000,
        description="Members that may be queued or running at once; null: as many as there are training workers.",
    )
    make_default: bool = Field(False, description="Make the chosen model the default one; this needs the scope admin.")
    webhook: str | None = Field(None, description=_WEBHOOK)


class TrainJobForm(Body):
    """A training job on images that come along."""

    name: Name = Field("", description="Name of the job and of the model.")
    preset: Preset | None = Field(None, description="Settings to start from.", json_schema_extra=_without_null)
    config: str = Field("", description="As in JSON, written as JSON text.")
    minutes: str = Field("", description="As in JSON: a number of minutes.")
    from_: str = Field("", alias="from", description=_FROM)
    evaluate: str = Field("", description='As in JSON, written as JSON text: true, or ["mig"].')
    webhook: str = Field("", description=_WEBHOOK)
    file: Upload = Field(description="A zip of images.")


class EvaluationRequest(Body):
    """An evaluation of a model on a data set."""

    dataset: str | None = Field(None, description="Id or name of a data set; empty: the model's own.")
    metrics: Annotated[
        tuple[str, ...], PlainValidator(_check_scores), WithJsonSchema({"anyOf": [_SCORES, {"type": "null"}]})
    ] = Field(
        METRICS,
        description="Scores to compute; an empty list: losses alone; absent or null: the usual ones, which are "
        f"{', '.join(METRICS)}. A set without factors gives "
        "losses and active dimensions, whatever the list says.",
        json_schema_extra={"default": None},
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of every random draw.")
    webhook: str | None = Field(None, description=_WEBHOOK)


class DatasetForm(Body):
    """A data set to upload."""

    name: Name | None = Field(
        None,
        description="Its name, of which its id is made; empty: that of the address (`?name=`).",
        json_schema_extra=_without_null,
        examples=["faces"],
    )
    file: Upload = Field(description="A zip of images, in folders or not; or pixels in a .npz, .npy or .h5 file.")


class ModelForm(Body):
    """A model that was trained elsewhere."""

    file: Upload = Field(
        description="A bundle (zip of model.safetensors and model.json), a model.safetensors, or a checkpoint of "
        "YannDubs/disentangling-vae or 1Konny/Beta-VAE."
    )
    spec: Upload | None = Field(
        None,
        description="The description beside the file: model.json of a model.safetensors, specs.json of "
        "disentangling-vae.",
        json_schema_extra=_without_null,
    )
    name: Name = Field("", description="Name of the model; empty: the one in the file.")
    format: Literal["auto", "bundle", "safetensors", "disentangling-vae", "1konny"] = Field(
        "auto", description="Format of the file."
    )


class DefaultModel(Body):
    """The choice of the default model."""

    id: str = Field(description="Id of a model.")


def _printable(label: str) -> str:
    if not label.isprintable():
        raise ValueError("must have printable characters only")
    return label


Label = Annotated[str, Field(max_length=MAX_LABEL_LENGTH), AfterValidator(_printable)]


class ModelChanges(Body):
    """Changes of a model; what is absent stays."""

    name: Name = Field("", description="The new name; the id stays.", json_schema_extra=_without_default)
    dimension_labels: Annotated[list[Label], FailFast()] = Field(
        [], description="One text a dimension, empty where there is none.", json_schema_extra=_without_default
    )


class ImageForm(Body):
    """An image for a model."""

    image: Upload = Field(description="The image, of any size.")


def _rows(value: Any) -> Any:
    """Takes a single vector for a list of one."""
    return [value] if isinstance(value, list) and value and not isinstance(value[0], list) else value


class LatentVectors(Body):
    """Latent vectors to decode."""

    z: Annotated[
        list[Annotated[list[Annotated[float, Field(ge=-MAX_LATENT, le=MAX_LATENT)]], FailFast()]],
        FailFast(),
        BeforeValidator(_rows),
        Field(min_length=1),
    ] = Field(description="Latent vectors, each of D numbers.")


class TraversalParameters(Body):
    """Base of the two forms of a traversal."""

    model: str = Field("", description="A model, by id or name; empty: the default.", json_schema_extra={"example": ""})
    name: Name = Field(
        "",
        description="A name to keep the traversal under; when the disk is full, traversals without a name are removed, "
        "the oldest first.",
        json_schema_extra={"example": ""},
    )

    @property
    def parameters(self) -> dict[str, str]:
        """The parameters that were given, as texts."""
        return {name: getattr(self, name) for name in TraversalRequest.model_fields if name in self.model_fields_set}


def _text_field(field: FieldInfo) -> Any:
    """Returns a form's field for a parameter: a text, which may be empty in place of null."""
    schema = field_schema(field)
    if "anyOf" in schema:
        kind = next(one for one in schema.pop("anyOf") if one.get("type") != "null")
        schema = {**kind, **schema, "example": ""}
        schema.pop("default", None)
        if schema["type"] == "array":
            del schema["items"]
            schema["type"] = "string"
        if "enum" in schema:
            schema["enum"] = ["", *schema["enum"]]
    return str, Field("", json_schema_extra=_described_as(schema))


_PARAMETERS: dict[str, Any] = {name: _text_field(field) for name, field in TraversalRequest.model_fields.items()}


class TraversalUploads(TraversalParameters):
    """The images of a traversal's form."""

    image: Upload | None = Field(None, description="The image to start from.", json_schema_extra=_without_null)
    image2: Upload | None = Field(
        None,
        description="A second image: the traversal then is the path between the two.",
        json_schema_extra=_without_null,
    )


TraversalForm = create_model(
    "TraversalForm", __base__=TraversalUploads, __doc__="A traversal, with images or without.", **_PARAMETERS
)
TraversalFields = create_model(
    "TraversalFields", __base__=TraversalParameters, __doc__="A traversal that starts without an image.", **_PARAMETERS
)

BODIES: tuple[type[BaseModel], ...] = (
    TrainJobRequest,
    TrainJobForm,
    SweepRequest,
    EvaluationRequest,
    DatasetForm,
    PreprocessingRequest,
    ModelForm,
    DefaultModel,
    ModelChanges,
    ImageForm,
    LatentVectors,
    TraversalForm,
    TraversalFields,
)
"""Every body, which the API's description needs as a component."""
