"""How examples of a kind are denoised by classical filters, measured and drawn."""

from autoenc.data.kinds.denoising.denoising import Denoising, Filter

__all__ = ["Denoising", "Filter"]
