"""The questions of a plan: facts that no file tells, each with what the deployment says about it."""

from collections.abc import Iterator

from tritium.migration.deployment import Deployment, Platform
from tritium.migration.finding import Finding, Severity
from tritium.migration.found import Found
from tritium.migration.launches.image import Role
from tritium.migration.planning.answers import KEEP, Answers
from tritium.migration.planning.own_container import SAGEMAKER_FILE, sagemaker_images
from tritium.migration.planning.plan import Change, Piece, Question
from tritium.migration.planning.proposals import change_of
from tritium.migration.rules.models.engines import asked, checkpoints, named_by
from tritium.migration.rules.rule import replacement

_DESCRIBED = {Platform.KSERVE, Platform.SELDON, Platform.SAGEMAKER, Platform.AZUREML}
"""Platforms for which a plan writes Tritium's image where none stood."""


def questions(deployment: Deployment, findings: tuple[Finding, ...], answers: Answers) -> Iterator[Question]:
    """Yield every question, those that are answered included."""
    yield from _images(deployment, findings, answers)
    for model, near in asked(deployment):
        about = model.place.parent.as_posix()
        text = f"{model.name}: which checkpoint was this engine built from? A hub name or a path"
        yield Question("checkpoint", about, text, checkpoints(model, near)[:4], answer=answers.to("checkpoint", about))
    for uri in dict.fromkeys(span.of(source.text) for source, span in sagemaker_images(deployment)):
        text = (
            f"{uri}: at which address of ECR is Tritium's image for SageMaker? (build {SAGEMAKER_FILE}: --unsafe=L17)"
        )
        yield Question("base", uri, text, answer=answers.to("base", uri))
    for image in _foreign(deployment, findings):
        text = f"{image}: which image takes its place? Build its Dockerfile again from Tritium's image, or '{KEEP}'"
        yield Question("base", image, text, answer=answers.to("base", image))


def answered(deployment: Deployment, findings: tuple[Finding, ...], answers: Answers) -> Iterator[Change]:
    """Yield the changes that answers ask for. They are safe: somebody said so."""
    by_place = {finding.path: finding for finding in findings if finding.rule == "M05"}
    for model, _ in asked(deployment):
        checkpoint = answers.to("checkpoint", model.place.parent.as_posix())
        fix = named_by(deployment, model, checkpoint, safe=True) if checkpoint not in ("", KEEP) else None
        if fix is not None and (finding := by_place.get(model.place)) is not None:
            yield change_of(finding, fix, f"serves {checkpoint} in place of the compiled engine, as answered")
    for source, span in sagemaker_images(deployment):
        new = answers.to("base", span.of(source.text))
        if new not in ("", KEEP):
            line = source.place(span.start)[0]
            piece = Piece(str(source.path), span.start, span.end, new)
            message = f"SageMaker's image becomes {new}, as answered"
            yield Change("L17", str(source.path), line, message, safe=True, pieces=[piece])
    for finding in findings:
        if finding.rule != "L09":
            continue
        for launch, image in deployment.images():
            new = answers.to("base", image.text)
            place = launch.source.place(image.span.start)
            if new not in ("", KEEP) and (launch.source.path, *place) == (finding.path, finding.line, finding.column):
                fix = replacement(launch.source, image.span, new)
                yield change_of(finding, fix, f"image {image.text} becomes {new}, as answered")


def checkpoint_of(
    deployment: Deployment, findings: tuple[Finding, ...], engine: Found, answers: Answers, *, guess: bool
) -> str:
    """Return the checkpoint that takes an engine's place: as answered, as its configuration says, or as guessed.

    A guess is the one that rule M05 would name. "" where nothing is known, or the engine is to stay.
    """
    said = answers.to("checkpoint", engine.place.parent.as_posix())
    if said:
        return "" if said == KEEP else said
    if "checkpoint" in engine.config.parameters:
        return str(engine.config.parameters["checkpoint"].string_value)
    likely = any(finding.rule == "M05" and finding.path == engine.place and finding.fix for finding in findings)
    named = next((checkpoints(model, near) for model, near in asked(deployment) if model is engine), [])
    return named[0] if guess and likely else ""


def _images(deployment: Deployment, findings: tuple[Finding, ...], answers: Answers) -> Iterator[Question]:
    """Ask for the names of Tritium's images, as far as one is written anywhere."""
    written = any(finding.rule == "L01" and finding.fix is not None for finding in findings)
    plain, vllm = deployment.target.image, deployment.target.vllm_image
    flavours = {image.flavour in ("vllm", "trtllm") for _, image in deployment.images() if image.role is Role.SERVER}
    described = any(host.platform in _DESCRIBED for host in deployment.hosted)
    if (written and False in flavours) or described:
        text = "what is Tritium's image called where it is pushed? (docker build -t NAME .)"
        yield Question("image", "", text, assumed=plain, answer=answers.to("image"))
    if written and True in flavours:
        text = "and Tritium's image for language models? (docker build --build-arg EXTRAS=onnx,vllm -t NAME .)"
        yield Question("vllm_image", "", text, assumed=vllm, answer=answers.to("vllm_image"))


def _foreign(deployment: Deployment, findings: tuple[Finding, ...]) -> list[str]:
    """Return the images of others that nothing here builds."""
    places = {(f.path, f.line, f.column) for f in findings if f.rule == "L09" and f.severity is Severity.QUESTION}
    found = [
        image.text
        for launch, image in deployment.images()
        if image.role is Role.CUSTOM and (launch.source.path, *launch.source.place(image.span.start)) in places
    ]
    return list(dict.fromkeys(found))
