"""The errors of eo-assets: one flat tree, imported by every room.

A message names the file, key or tile, the value and the remedy.
"""


class EoAssetsError(Exception):
    """Base of every error that eo-assets raises on purpose."""


class ProjectError(EoAssetsError):
    """The project file, or a file it names, can't be used as it stands."""


class AreaError(EoAssetsError):
    """An area of interest can't be read, or can't be tiled on the chosen grid."""


class GridError(EoAssetsError):
    """A grid was asked for something it does not have: a resolution, a tile name, a layer."""


class EvalscriptError(EoAssetsError):
    """An evalscript can't be compiled, breaks a rule of evalscript V3, or failed or overran its limits."""


class ServiceError(EoAssetsError):
    """Sentinel Hub, real or local, refused a request or failed a job."""


class TransientError(EoAssetsError):
    """A fault that may pass: network, lost worker, throttling. The tile is tried again."""


class AnswerLost(TransientError):
    """A request that must not be sent twice went out, and nobody knows whether it was carried out: look, then ask."""


class TileError(EoAssetsError):
    """A tile's data can't be processed. Final for that tile, harmless for every other."""


class DamagedDelivery(TileError):
    """What the service delivered is incomplete or can't be read. Delivered anew it may be whole."""


class ModelError(EoAssetsError):
    """A model can't be trained, or does not fit the features that it is asked to predict from."""


class StoreError(EoAssetsError):
    """A committed output is missing, torn, or owned by another project; or its folder can't be written."""


class FilesGone(StoreError):
    """The files of an attempt, or of a delivery, are not where they were."""


class StorageRefused(StoreError):
    """The disk is full, or may not be written: it would refuse the next tile too, so nothing more is begun."""


class BudgetExceeded(EoAssetsError):
    """A request would cost more than the project's budget allows."""


class ApprovalNeeded(EoAssetsError):
    """A request would cost something that the project wants a person to approve first."""


class ClusterError(EoAssetsError):
    """A cluster can't be started, found or ended: the account, its rights or the cluster's settings are in the way."""
