"""Train a small transformer the way large ones are trained: Lion, clipping, bfloat16, warm-up.

python examples/transformer.py
"""

import torch

from hpolab import (
    TorchObjective,
    load_digits,
    make_study,
    optimizer_space,
    run,
    schedule_space,
    split_four,
)

N_PATCHES, PATCH = 16, 4  # an image of 8 x 8 in patches of 2 x 2


class Transformer(torch.nn.Module):
    def __init__(self, width, n_layers, dropout):
        super().__init__()
        self.embed = torch.nn.Linear(PATCH, width)
        self.places = torch.nn.Parameter(0.02 * torch.randn(N_PATCHES, width))
        layer = torch.nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout, batch_first=True, norm_first=True
        )
        self.blocks = torch.nn.TransformerEncoder(layer, n_layers, enable_nested_tensor=False)
        self.norm = torch.nn.LayerNorm(width)
        self.head = torch.nn.Linear(width, 10)

    def forward(self, images):
        patches = torch.nn.functional.unfold(images, 2, stride=2).transpose(1, 2)
        tokens = self.blocks(self.embed(patches) + self.places)
        return self.head(self.norm(tokens).mean(1))


def build_model(params):
    return Transformer(params["width"], params["n_layers"], params["dropout"])


class Lion(torch.optim.Optimizer):
    """Steps by the sign of a mean of gradients (Chen et al. 2023, arXiv:2302.06675)."""

    def __init__(self, params, lr, weight_decay, beta1=0.9, beta2=0.99):
        settings = {"lr": lr, "weight_decay": weight_decay, "beta1": beta1, "beta2": beta2}
        super().__init__(params, settings)

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                mean = self.state[p].setdefault("mean", torch.zeros_like(p))
                direction = mean.lerp(p.grad, 1 - group["beta1"]).sign()
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(group["lr"] * direction)
                mean.lerp_(p.grad, 1 - group["beta2"])


def build_lion(params, model):
    """An optimizer of one's own is a function; biases and norms do not decay.

    By name, as "lion", it comes with the extra `optimizers`.
    """
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    return Lion(groups, params["lr"], params["weight_decay"])


def note_overfitting(shown):
    """Keep the training loss with the trial, beside the loss on `valid` that it reports."""
    if shown.trial is not None:
        shown.trial.set_user_attr("train_loss", round(shown.train_loss, 4))


def search_space(max_epochs):
    model = {"width": [32, 64], "n_layers": (1, 3), "dropout": (0.0, 0.3)}
    # Lion's authors advise a learning rate 3 to 10 times below AdamW's, and as much more decay.
    lion = {"lr": (3e-5, 3e-3, "log"), "weight_decay": (1e-3, 1.0, "log")}
    clipping = {"max_grad_norm": [None, 0.3, 1.0, 3.0]}
    return model | lion | clipping | schedule_space("cosine", max_epochs=max_epochs, warmup=True)


def main(storage="sqlite:///transformer.db", n_trials=12, max_epochs=20, device="cpu"):
    data = split_four(load_digits(), n_train=800, n_valid=300, n_score=297, n_test=400)
    settings = {
        "train": data.train,
        "valid": data.valid,
        "score": data.score,
        "loss": "cross_entropy",
        "metric": "loss",
        "metrics": ["accuracy"],
        "max_epochs": max_epochs,
        "batch_size": 32,
        "accumulation_steps": 2,  # a step sees 64 rows, the memory holds 32
        "precision": "bf16",
        "device": device,
    }
    lion = TorchObjective(
        build_model,
        search_space=search_space(max_epochs),
        optimizer=build_lion,
        on_epoch=note_overfitting,
        **settings,
    )
    study = make_study("transformer", storage=storage, objective=lion, seed=0)
    run(study, lion, n_trials=n_trials)  # start it again after a crash: it goes on

    best = study.best_trial
    print(f"best loss {best.value:.4f} with {best.params}")
    print(f"the loss on its training rows at the end: {best.user_attrs['train_loss']}")
    print(f"on data the study never saw: {lion.evaluate(lion.fit_best(study), data.test)}")

    # The same model under an optimizer that hpolab knows takes the same groups as an option.
    adamw = TorchObjective(
        build_model,
        search_space=optimizer_space("adamw")
        | schedule_space("cosine", max_epochs=max_epochs, warmup=True)
        | {name: best.params[name] for name in ("width", "n_layers", "dropout")},
        decay_biases=False,
        max_grad_norm=1.0,
        **settings,
    )
    model = adamw.fit(adamw.search_space.defaults())
    print(f"AdamW at its defaults: {adamw.evaluate(model, data.test)}")


if __name__ == "__main__":
    main()
