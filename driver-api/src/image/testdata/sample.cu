__device__ int table[4]={1,2,3,4};
struct big{int a[3]; double b;};
extern "C" __global__ void saxpy(float a,const float*x,float*y,int n){int i=blockIdx.x*blockDim.x+threadIdx.x;if(i<n)y[i]+=a*x[i];}
extern "C" __global__ void takes(char c, big b, short s, const int* p){ if(threadIdx.x==0) ((int*)p)[0]=b.a[1]+c+s+table[1];}
extern "C" __global__ void none(){}
