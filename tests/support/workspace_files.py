"""Files of a workspace, each with a command that reads it."""

__all__ = ["FILES"]

FILES = {
    "plans/*/plan.json": "plan why pictures/00001",
    "plans/*/labels.parquet": "plan exposure",
    "plans/*/draws.parquet": "plan exposure",
    "plans/*/samples.parquet": "plan why pictures/00001",
    "packs/*/manifest.json": "pack --verify",
    "packs/*/index.parquet": "pack --verify",
    "runs/r/run.json": "plan exposure --run r",
    "runs/r/exposure.json": "plan exposure --run r",
    "runs/r/predictions.parquet": "request --budget 2 --run r --author ada",
    "embeddings/model/embeddings.json": "duplicates --embeddings model",
    "embeddings/model/statistics.npy": "duplicates --embeddings model",
    "embeddings/model/vectors.npy": "duplicates --embeddings model",
    "embeddings/model/keys.parquet": "duplicates --embeddings model",
    "oracle.parquet": "oracle",
    "service.json": "serve tokens",
}
