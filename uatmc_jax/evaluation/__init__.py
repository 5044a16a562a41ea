"""How good a recommender is: full ranking, its metrics, and what of them rests on content."""
