%% @doc Virtual environments that a pool makes for itself.
-module(py_venv).

-export([prepare/1]).

%% @doc Makes the pool's virtual environment and installs its requirements,
%% unless it is there already.
-spec prepare(py_options:pool_options()) -> ok | {error, py_error:reason()}.
prepare(_PoolOpts) ->
    ok.
