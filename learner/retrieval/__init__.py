"""Two-tower retrieval: vectors of users and items, exact search, recall and NDCG; on a split and in a stream."""
