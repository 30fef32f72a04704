"""Denoise images or windows of recordings with a trained run.

Without --input: test examples with noise, compared with the clean ones and the best classical filter (scikit-image;
for recordings Wiener and Savitzky-Golay of scipy), which is selected on validation examples. With --input: new noisy
images (files, a folder, .npy, .npz) or recordings.
"""

from __future__ import annotations

import argparse

from autoenc.command import Results, add_input, execute, parser, positive

COUNT = 200
EXAMPLES = """examples:
  python scripts/denoise.py RUN                                     test images with the noise of training
  python scripts/denoise.py RUN --noise salt_pepper --level 0.2     test images with other noise
  python scripts/denoise.py RUN --input scans/ --output clean/      new images
  python scripts/denoise.py RUN --input log.csv --output clean/     a new recording

results: denoise.json (PSNR [dB] and SSIM, or SNR [dB], before and after, higher is better), denoise.npz (noisy,
denoised, clean), examples.png; with --input also a PNG for each image, in the folders of the input, or denoised.csv
"""


def main(args: argparse.Namespace) -> Results:
    """Denoise, print, write."""
    import torch

    from autoenc import load_run
    from autoenc.apps import inputs
    from autoenc.apps.outputs import Outputs
    from autoenc.apps.restoration import denoise
    from autoenc.errors import UserError, counted

    if args.clean and not args.input:
        raise UserError("--clean needs --input")
    for name in ("noise", "level", "count"):
        if args.input and getattr(args, name) is not None:
            raise UserError(f"--{name} {getattr(args, name)}: has no effect with --input, which has noise of its own")
    run = load_run(args.run, args.device)
    noisy, clean = None, None
    if args.input:
        noisy = inputs.read(run, args.input, args.resize, noisy=True)
        clean = inputs.read(run, args.clean, args.resize).split if args.clean else None
        if clean is not None and len(clean) != len(noisy.split):
            raise UserError(
                f"--clean {args.clean}: {len(clean)} {run.spec.kind.noun}, {args.input} has {len(noisy.split)}"
            )
    else:
        denoise.corruption(run, args.noise, args.level)
    with Outputs(run, "denoise", args.output, args.force, "input" if args.input else args.noise or "") as out:
        if noisy is not None:
            result = denoise.denoise(run, noisy.split, clean)
        else:
            result = denoise.denoise_test(run, args.count or COUNT, args.noise, args.level)
        arrays = {name: getattr(result, name) for name in ("noisy", "denoised", "clean", "filtered")}
        out.npz("denoise", **{name: array for name, array in arrays.items() if array is not None})
        out.figure("examples", denoise.figure(run, result))
        if noisy is not None:
            table = run.spec.kind.restored(noisy.split, torch.from_numpy(result.denoised))
            if table is None:
                out.images(noisy.names, result.denoised)
            else:
                out.csv("denoised", *table)
        out.json({run.spec.kind.noun.split()[0]: len(result.noisy), "filter": result.filter, **result.numbers})
    labels = {"noisy": "noisy", "model": run.name, "filter": result.filter}
    out.table("denoising", {labels[k]: v for k, v in result.numbers.items()})
    shown = "noisy and denoised" if result.clean is None else "noisy, denoised and clean"
    out.say(f"{counted(len(result.noisy), run.spec.kind.noun)}; {shown} side by side: {out.folder / 'examples.png'}")
    return out.summary


if __name__ == "__main__":
    arguments = parser(__doc__, EXAMPLES)
    add_input(arguments, "noisy images or recordings")
    arguments.add_argument("--clean", metavar="PATH", help="the same without noise, for PSNR and SSIM, or SNR")
    arguments.add_argument(
        "--noise", choices=("gaussian", "masking", "salt_pepper"), help="default: the noise of training"
    )
    arguments.add_argument("--level", type=float, help="standard deviation, or fraction of the values (default: 0.3)")
    arguments.add_argument("--count", type=positive, help=f"test examples (default: {COUNT})")
    execute(main, arguments)
