"""The settings of a study, in a module that is quick to import."""

import os
from collections.abc import Mapping
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from raretok.ablation.replacement import Replacement
from raretok.data.readers import TextLayout
from raretok.errors import RaretokError


class StudySettings(BaseModel):
    """The settings that define a study; nothing else changes its numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    model: str = Field("smollm2-135m", description="a known name, a directory or a hub id")
    step: int | None = Field(None, description="training step, for models with checkpoints")
    corpus: str = Field(
        "movie-reviews", description="a known name, a text, CSV, JSON or Parquet file or a folder of them, or a hub id"
    )
    text_column: str = Field("text", description="field that holds the text, where there are fields")
    documents: str = Field(
        "auto",
        min_length=1,
        description="what a document of a text file is: auto, lines, blank-lines, file, or what separates documents",
    )
    bos: Literal["auto", "yes", "no"] = Field(
        "auto", description="whether windows start with the model's first token: auto as the model is used, yes or no"
    )
    counts: str | None = Field(None, description="a .npy or .json file of the counts of the training text")
    frequency: Literal["auto", "training", "merges", "words", "text"] = Field(
        "auto",
        description="what ranks token types: counts of the training text, the tokenizer's merges, a list of English "
        "words, or the text under study; auto takes the first there is of training, merges and text",
    )
    part: str | None = Field(
        None,
        pattern=r"^[1-9]\d*/[1-9]\d*$",
        description="a part of the documents such as 2/5, into which they fall by their hashes; by default all",
    )
    windows: int = Field(256, ge=2, description="how many windows of text")
    length: int = Field(256, ge=16, description="tokens in a window")
    pack: bool = Field(
        False, description="fill windows with several short documents, separated by the token that starts a text"
    )
    sample: int = Field(2000, ge=100, description="positions ablated beside the rare targets and their controls")
    replacement: Replacement = Field("mean", description="what an ablated activation becomes")
    every_head: bool = Field(False, description="ablate every attention head, not the strongest and a sample")
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="precision of the forward pass over the text: bfloat16 is faster where there is hardware"
    )
    tolerance: float = Field(1e-4, gt=0, description="largest error of one Δ, in nats")
    seed: int = Field(0, ge=0, description="seed of the choice of documents, of samples and of resampling")

    @property
    def layout(self) -> TextLayout:
        """Where the text of a file is."""
        return TextLayout(self.text_column, self.documents)

    @field_validator("step", "windows", "length", "sample", "seed", mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return int(value) if type(value) is not bool and isinstance(value, Integral) else value

    @field_validator("model", "corpus", "counts", mode="before")
    @classmethod
    def _path(cls, value: Any) -> Any:
        return os.path.expanduser(value) if isinstance(value, Path | str) else value

    @model_validator(mode="after")
    def _one_frequency(self) -> "StudySettings":
        if self.counts is not None and self.frequency not in ("auto", "training"):
            raise ValueError(f"counts are given, but frequency is {self.frequency}: leave one of them out")
        return self

    @model_validator(mode="after")
    def _a_part(self) -> "StudySettings":
        if self.part is not None and (of := self.part.split("/")) and int(of[0]) > int(of[1]):
            raise ValueError(f"there is no part {of[0]} of {of[1]}")
        return self


def settings_in(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Pick the settings of a study out of a notebook's variables, so that every chapter takes all of them."""
    return {name: variables[name] for name in StudySettings.model_fields if name in variables}


def read_settings(**values: Any) -> StudySettings:
    """Return validated settings.

    Raises:
        RaretokError: a field is unknown or wrongly typed; the message lists the valid ones.
    """
    try:
        return StudySettings(**values)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise RaretokError(f"{wrong}. The parameters are {', '.join(StudySettings.model_fields)}") from None
