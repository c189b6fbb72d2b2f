"""Arguments of Lightning's Trainer that lacuna has under another name, or does without: what to write instead.

Arguments that are keys of ``trainer`` here have the meaning they have there.
"""

from __future__ import annotations

from lacuna.errors import LacunaError

_OF_A_TRAINING = "it is a setting of what is trained (net, density, flow or imputer)"
_EVALUATED = "every image of a split is evaluated: data.{split}_images=N takes fewer"
_COUNTED = "trainings count epochs: net.training.epochs=N, net.training.limit_batches=N"
_NO_OTHER = "nothing else is needed: leave it out"

INSTEAD = {
    "accumulate_grad_batches": "gradients are not accumulated, since a run could not resume exactly in between: "
    "net.training.batch_size=N takes larger batches",
    "auto_lr_find": "sweep.py search=classifier looks for a learning rate",
    "auto_scale_batch_size": "the batch size decides the numbers: net.training.batch_size=N",
    "barebones": "trainer.progress=false does without the progress bar",
    "benchmark": "cuDNN's choice of algorithms is left to torch; trainer.deterministic=true fixes it",
    "callbacks": "a training has no callbacks of its own choice: docs/guide/training.md says what can be set",
    "check_val_every_n_epoch": "validation images are evaluated after every epoch; data.validation=0 sets none aside",
    "default_root_dir": "output=FOLDER is where runs are",
    "detect_anomaly": "a loss that is not finite ends a run in a sentence anyway",
    "enable_autolog_hparams": "the recipe is always logged",
    "enable_checkpointing": "an interrupted run always resumes; trainer.checkpoint_seconds=N saves less often",
    "enable_model_summary": "no summary is printed",
    "enable_progress_bar": "trainer.progress=false does without it",
    "gpus": "trainer.devices=N",
    "gradient_clip_algorithm": f"{_OF_A_TRAINING}: net.training.gradient_clip=C clips the norm, "
    "net.training.gradient_clip_value=C the values",
    "gradient_clip_val": f"{_OF_A_TRAINING}: net.training.gradient_clip=C clips the norm of the gradient",
    "inference_mode": _NO_OTHER,
    "limit_predict_batches": "impute.py imputes all images of its folder",
    "limit_test_batches": _EVALUATED.format(split="test"),
    "limit_train_batches": f"{_OF_A_TRAINING}: net.training.limit_batches=N",
    "limit_val_batches": _EVALUATED.format(split="validation"),
    "log_every_n_steps": "every epoch is logged",
    "logger": "logger=disk or logger=wandb is a choice of its own",
    "max_epochs": f"{_OF_A_TRAINING}: net.training.epochs=N",
    "max_steps": _COUNTED,
    "max_time": "an interrupted run resumes where it stopped: interrupt it (Ctrl-C), or reproduce.py ... minutes=N",
    "min_epochs": _COUNTED,
    "min_steps": _COUNTED,
    "model_registry": "models are files in the run's folder",
    "num_nodes": "a run takes the devices of one machine: trainer.devices=N; executor=ray spreads runs over machines",
    "num_sanity_val_steps": "trainer.fast_dev_run=N tries all phases in seconds",
    "overfit_batches": "few images and many epochs do that: data.train_images=N net.training.epochs=M",
    "plugins": "the plugins are those that trainer.devices and precision need",
    "precision": "it is part of the recipe: precision=bf16-mixed",
    "reload_dataloaders_every_n_epochs": "the order of images changes from epoch to epoch already",
    "resume_from_checkpoint": "the same command resumes an interrupted run",
    "strategy": "trainer=ddp trainer.devices=N trains one run on several devices",
    "sync_batchnorm": "several devices always normalise batches together",
    "use_distributed_sampler": "several devices always share the batches",
    "val_check_interval": "validation images are evaluated after every epoch",
}
"""Argument -> what to write instead, or why there is nothing to write."""


def refuse_lightning_words(override: str) -> None:
    """Refuse an override of ``trainer`` that Lightning has and lacuna has not.

    Args:
        override: as typed: ``trainer.max_epochs=3``, also with a ``+``.

    Raises:
        LacunaError: it is one of :data:`INSTEAD`.
    """
    key = override.lstrip("+").partition("=")[0]
    group, _, name = key.partition(".")
    if group == "trainer" and name in INSTEAD:
        raise LacunaError(f"{override}: there is no {key} here; {INSTEAD[name]}.")
