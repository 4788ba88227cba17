"""CatBoost: trees without memory of their order, of numbers and of categories, trained on the device; what it predicts on the processor from them."""

import catboost
import numpy
from common import close, passed, true

source = numpy.random.default_rng(4)
COUNT = 1500
numbers = source.normal(size=(COUNT, 6)).astype(numpy.float32)
colours = source.integers(0, 5, COUNT)
score = 2 * numbers[:, 0] + numpy.sin(3 * numbers[:, 1]) + 1.5 * (colours == 2)
SETTINGS = {"depth": 4, "random_seed": 3, "verbose": False, "allow_writing_files": False}
DEVICE = {"task_type": "GPU", "devices": "0", "gpu_ram_part": 0.2}


def trained(name, kind, features, labels, judge, least, **settings):
    """A model of the device judges as well as one of the processor."""
    models = [kind(**SETTINGS, **place, **settings) for place in (DEVICE, {})]
    found = [judge(model.fit(features, labels)) for model in models]
    true(name, min(found) >= least, *(f"{each:.3f}" for each in found))
    return models[0]


def accuracy(labels):
    return lambda model: numpy.mean(model.predict(rows).ravel() == labels)


rows = numbers
binary = (score > 0.5).astype(int)
model = trained("two classes", catboost.CatBoostClassifier, rows, binary, accuracy(binary), 0.9, iterations=20)
close("their probabilities", model.predict_proba(rows).sum(1), numpy.ones(COUNT), rtol=1e-6)
classes = numpy.digitize(score, [-1, 1])
trained("three classes", catboost.CatBoostClassifier, rows, classes, accuracy(classes), 0.8, iterations=20)
error = lambda model: -numpy.mean((model.predict(rows) - score) ** 2)
trained("numbers", catboost.CatBoostRegressor, rows, score, error, -1.2, iterations=30, learning_rate=0.3)

rows = catboost.Pool(numpy.column_stack([numbers.astype(object), colours.astype(str)]), binary, cat_features=[6])
kept = lambda model: numpy.mean(model.predict(rows).ravel() == binary)
categories = {"iterations": 20, "one_hot_max_size": 2}
trained("categories", catboost.CatBoostClassifier, rows, None, kept, 0.9, **categories)
passed("catboost")
