"""The embeddings of l3net.inference.embeddings, under the name of earlier versions."""

from l3net.inference.embeddings import get_audio_embedding, get_image_embedding, get_video_embedding

__all__ = ["get_audio_embedding", "get_image_embedding", "get_video_embedding"]
