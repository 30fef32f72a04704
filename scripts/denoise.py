"""Denoise images with a trained run.

Without --input: test images with noise, beside the clean ones and the best classical filter of scikit-image, chosen and
tuned on validation images. With --input: noisy images of yours (PNG, JPEG ..., a folder of them, .npy, .npz).
"""

from __future__ import annotations

import argparse

from autoenc.command import execute, parser, positive

EXAMPLES = """examples:
  python scripts/denoise.py RUN                                     test images with the noise of the training
  python scripts/denoise.py RUN --noise salt_pepper --level 0.2     ... with other noise
  python scripts/denoise.py RUN --input scans/ --output clean/      images of yours

results: denoise.json (PSNR [dB] and SSIM before and after), denoise.npz (noisy, denoised, clean), examples.png; with
--input also a PNG for each image
"""


def main(args: argparse.Namespace) -> None:
    """Denoise, print, write."""
    from autoenc import load_run
    from autoenc.apps import inputs
    from autoenc.apps.generation import denoise
    from autoenc.apps.outputs import Outputs
    from autoenc.errors import UserError

    if args.clean and not args.input:
        raise UserError("--clean needs --input")
    run = load_run(args.run, args.device)
    with Outputs(run, "denoise", args.output, args.force) as out:
        if args.input:
            found = inputs.read(run, args.input, args.resize, noisy=True)
            clean = inputs.read(run, args.clean, args.resize).split if args.clean else None
            if clean is not None and len(clean) != len(found.split):
                raise UserError(f"--clean {args.clean}: {len(clean)} images, {args.input} has {len(found.split)}")
            result = denoise.denoise(run, found.split, clean)
            out.images(found.names, result.denoised)
        else:
            result = denoise.denoise_test(run, args.count, args.noise, args.level)
        arrays = {
            "noisy": result.noisy,
            "denoised": result.denoised,
            "clean": result.clean,
            "filtered": result.filtered,
        }
        out.npz("denoise", **{name: array for name, array in arrays.items() if array is not None})
        out.figure("examples", denoise.picture(run, result))
        out.json({"images": len(result.noisy), "filter": result.filter, **result.numbers})
    labels = {"noisy": "noisy", "model": run.name, "filter": result.filter}
    out.table("denoising", {labels[k]: v for k, v in result.numbers.items()})
    shown = "noisy and denoised" if result.clean is None else "noisy, denoised and clean"
    out.say(f"{len(result.noisy):,} images; {shown} side by side: {out.folder / 'examples.png'}")


if __name__ == "__main__":
    arguments = parser(__doc__, EXAMPLES)
    arguments.add_argument("--input", metavar="PATH", help="noisy images of yours: a file, a folder or an array")
    arguments.add_argument("--clean", metavar="PATH", help="the same images without noise, for PSNR and SSIM")
    arguments.add_argument("--resize", action="store_true", help="scale images to the size that the run was trained on")
    arguments.add_argument("--noise", choices=("gaussian", "masking", "salt_pepper"), help="default: the run's own")
    arguments.add_argument("--level", type=float, help="standard deviation, or part of the pixels (default: 0.3)")
    arguments.add_argument("--count", type=positive, default=200, help="test images (default: 200)")
    execute(main, arguments)
